package api

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// largest is how many bytes a body may have.

const largest = 3 << 20

func mustJSON(object any) []byte {
	text, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		panic(err) // It is a struct of strings.
	}
	return text
}

func body(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, largest))
	if err != nil {
		return nil, apierrors.NewBadRequest("reading the body: " + err.Error())
	}
	return data, nil
}

// decodeInto reads the body of a request, in either form. Its kind may be left out.

func decodeInto(r *http.Request, object runtime.Object) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(object)
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	if _, kind, err := decoder(r).Decode(data, &kinds[0], object); err != nil {
		if kind != nil && kind.Kind != "" {
			return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v",
				kind.Kind, kind.Version, kinds[0].Kind, err))
		}
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)",
			kinds[0].Kind, err, summary(data)))
	}
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return nil
}

// decoder reads the form that the body is said to have.

func decoder(r *http.Request) runtime.Decoder {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // Nothing can be read as everything.
	if info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), media); ok {
		return info.Serializer
	}
	return scheme.Codecs.UniversalDeserializer()
}

// summary is the beginning of a body that cannot be read, as an error shows it.

func summary(data []byte) string {
	const shown = 30
	text := string(data[:min(len(data), shown)])
	if len(data) > 0 && data[0] != '{' {
		text = hex.EncodeToString([]byte(text))
	}
	if len(data) > shown {
		text += " ..."
	}
	return cmp.Or(text, "<empty>")
}

// dry reports whether nothing is to be written.

func (c *call) dry() bool { return len(c.r.URL.Query()["dryRun"]) > 0 }

// reply answers with an object.

func (c *call) reply(code int, object objects.Object) error {
	c.Counts.Writes.Add(1)
	answer(c.w, code, c.GroupVersionKind, object, c.encoding)
	return nil
}

// create makes an object of the body.

func (c *call) create() error {
	object := c.make()
	if err := decodeInto(c.r, object); err != nil {
		return err
	}
	if err := c.admit(object); err != nil {
		return err
	}
	if c.dry() {
		return c.reply(http.StatusCreated, object)
	}
	if err := c.Add(object); err != nil {
		return err
	}
	if namespace, ok := object.(*corev1.Namespace); ok {
		c.Furnish(namespace.Name)
	}
	return c.reply(http.StatusCreated, object)
}

// Add puts a new object into the table and gives it its version.

// Add puts a new object into the table and gives it its version.
func (r *Resource) Add(object objects.Object) error {
	_, _, err := r.Insert(rows.Item{Row: rows.Row{Node: -1}, Object: object})
	if errors.Is(err, rows.ErrExists) {
		return apierrors.NewAlreadyExists(r.groupResource(), object.GetName())
	}
	return err
}

// admit makes a new object what it is when it is stored, or says why it is not let in.

func (c *call) admit(object objects.Object) error {
	if object.GetName() == "" && object.GetGenerateName() != "" {
		object.SetName(object.GetGenerateName() + fmt.Sprintf("%05x", rand.N(1<<20)))
	}
	if c.Namespaced {
		if in := object.GetNamespace(); in != "" && in != c.namespace {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		object.SetNamespace(c.namespace)
		if err := c.mayCreateIn(c.namespace); err != nil {
			return err
		}
	} else if object.GetNamespace() != "" {
		object.SetNamespace("")
	}
	if err := c.validName(object.GetName()); err != nil {
		return err
	}
	admit.Begin(object)
	switch o := object.(type) {
	case *corev1.Pod:
		return admit.Pod(o)
	case *corev1.Namespace:
		admit.Namespace(o)
	}
	return nil
}

func (c *call) validName(name string) error {
	if name == "" {
		return apierrors.NewInvalid(c.GroupKind(), "", field.ErrorList{
			field.Required(field.NewPath("metadata", "name"), "name or generateName is required"),
		})
	}
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return apierrors.NewInvalid(c.GroupKind(), name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "name"), name, strings.Join(faults, ",")),
		})
	}
	return nil
}

// mayCreateIn says why nothing can be created in a namespace.

func (c *call) mayCreateIn(name string) error {
	item, ok := c.Core("namespaces").Get("", name)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, name)
	}
	if item.Object.(*corev1.Namespace).DeletionTimestamp == nil {
		return nil
	}
	err := apierrors.NewForbidden(c.groupResource(), "",
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", name), Field: "metadata.namespace",
	})
	return err
}

// Furnish puts into a namespace what controllers put into every one.

// Furnish puts into a namespace what controllers put into every one.
func (c *Cluster) Furnish(namespace string) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
	root := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt", Namespace: namespace}}
	admit.Begin(account)
	admit.Begin(root)
	_ = c.Core("serviceaccounts").Add(account) // Somebody may have been faster.
	_ = c.Core("configmaps").Add(root)
}

// change replaces the object that the path names by what next makes of it. next may change its argument.

func (c *call) change(subresource string, next func(objects.Object) error) (objects.Object, error) {
	item, err := c.Change(c.namespace, c.name, func(item rows.Item) (rows.Next, error) {
		before := objects.Of(c.Maker, item)
		after := before.DeepCopyObject().(objects.Object)
		if err := next(after); err != nil {
			return rows.Next{}, err
		}
		if err := c.keep(before, after, subresource); err != nil {
			return rows.Next{}, err
		}
		n := rows.Next{Item: item, Same: equality.Semantic.DeepEqual(before, after)}
		n.Object = after
		n.Remove = after.GetDeletionTimestamp() != nil && len(after.GetFinalizers()) == 0 && len(before.GetFinalizers()) > 0
		if c.dry() {
			return rows.Next{}, dryRun{after}
		}
		return n, nil
	})
	if dry := (dryRun{}); errors.As(err, &dry) {
		return dry.Object, nil
	}
	if errors.Is(err, rows.ErrNotFound) {
		return nil, apierrors.NewNotFound(c.groupResource(), c.name)
	}
	if err != nil {
		return nil, err
	}
	return objects.Of(c.Maker, item), nil
}

// dryRun carries what would have been written.

type dryRun struct{ objects.Object }

func (dryRun) Error() string { return "dry run" }

// keep puts back what a write does not change, and refuses what it must not.

func (c *call) keep(before, after objects.Object, subresource string) error {
	if uid := after.GetUID(); uid != before.GetUID() && uid != "" {
		return c.otherUID(uid, before.GetUID())
	}
	if version := after.GetResourceVersion(); version != "" && version != before.GetResourceVersion() {
		return apierrors.NewConflict(c.groupResource(), c.name, errors.New(tooNew))
	}
	if after.GetNamespace() == "" {
		after.SetNamespace(before.GetNamespace())
	}
	if after.GetName() != before.GetName() || after.GetNamespace() != before.GetNamespace() {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)",
			after.GetName(), before.GetName()))
	}
	after.SetUID(before.GetUID())
	after.SetResourceVersion(before.GetResourceVersion())
	after.SetCreationTimestamp(before.GetCreationTimestamp())
	after.SetDeletionTimestamp(before.GetDeletionTimestamp())
	after.SetDeletionGracePeriodSeconds(before.GetDeletionGracePeriodSeconds())
	after.SetGeneration(before.GetGeneration())
	if pod, ok := after.(*corev1.Pod); ok {
		return admit.KeepPod(before.(*corev1.Pod), pod, subresource)
	}
	if c.Status {
		return admit.KeepPart(before, after, subresource == "status")
	}
	return nil
}

// otherUID is the error of a write that is for another object of the same name.

func (c *call) otherUID(sent, have types.UID) error {
	if c.r.Method == http.MethodPatch {
		return apierrors.NewInvalid(c.GroupKind(), c.name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), sent, "field is immutable"),
		})
	}
	return c.precondition(c.name, "UID", string(sent), string(have))
}

// tooNew is what a real API server says when a resource version is not the newest.

const tooNew = "the object has been modified; please apply your changes to the latest version and try again"

// update replaces an object by the body.

func (c *call) update(subresource string) error {
	sent := c.make()
	if err := decodeInto(c.r, sent); err != nil {
		return err
	}
	object, err := c.change(subresource, func(object objects.Object) error {
		sent.SetManagedFields(object.GetManagedFields())
		return admit.Copy(sent, object)
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, object)
}
