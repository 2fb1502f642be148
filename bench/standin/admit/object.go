package admit

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// Begin gives a new object what an API server gives it.
func Begin(object objects.Object) {
	object.SetUID(uuid.NewUUID())
	object.SetResourceVersion("")
	object.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	object.SetDeletionTimestamp(nil)
	object.SetManagedFields(nil)
}

// Namespace gives a new namespace what every one has.
func Namespace(n *corev1.Namespace) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
	n.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	n.Status.Phase = corev1.NamespaceActive
}

// NewNamespace is one that is there from the start.
func NewNamespace(name string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	Begin(n)
	Namespace(n)
	return n
}

// KeepPart leaves the status alone, or all but the status and metadata.
func KeepPart(before, after objects.Object, status bool) error {
	old, err := runtime.DefaultUnstructuredConverter.ToUnstructured(before)
	if err != nil {
		return err
	}
	now, err := runtime.DefaultUnstructuredConverter.ToUnstructured(after)
	if err != nil {
		return err
	}
	keys := []string{"status"}
	if status {
		keys = slices.DeleteFunc(keysOf(old, now), func(key string) bool { return key == "status" || key == "metadata" })
	}
	for _, key := range keys {
		if value, ok := old[key]; ok {
			now[key] = value
		} else {
			delete(now, key)
		}
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(now, after)
}

func keysOf(sets ...map[string]any) []string {
	var keys []string
	for _, set := range sets {
		for key := range set {
			keys = append(keys, key)
		}
	}
	return keys
}

// Copy makes an object what another one is.
func Copy(from, to objects.Object) error {
	data, err := from.Marshal()
	if err != nil {
		return err
	}
	resetter := to.(interface {
		Reset()
		Unmarshal(data []byte) error
	})
	resetter.Reset()
	return resetter.Unmarshal(data)
}

// Patch applies a patch to an object.
func Patch(object objects.Object, kind types.PatchType, change []byte) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	switch kind {
	case types.JSONPatchType:
		patch, decodeErr := jsonpatch.DecodePatch(change)
		if decodeErr != nil {
			return apierrors.NewBadRequest(decodeErr.Error())
		}
		if text, err = patch.Apply(text); err != nil {
			return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", objectResource, "", err.Error(), 0, false)
		}
	case types.MergePatchType:
		text, err = jsonpatch.MergePatch(text, change)
	default:
		text, err = strategicpatch.StrategicMergePatch(text, change, object)
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	empty := object.(interface{ Reset() })
	empty.Reset()
	if err := json.Unmarshal(text, object); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// MarkDeleted marks an object as deleted, and reports whether its end takes time.
func MarkDeleted(object objects.Object, options *metav1.DeleteOptions, now time.Time) bool {
	grace, takesTime := int64(0), len(object.GetFinalizers()) > 0
	switch o := object.(type) {
	case *corev1.Pod:
		grace = podGrace(o, options)
		takesTime = takesTime || grace > 0
	case *corev1.Namespace:
		o.Status.Phase, takesTime = corev1.NamespaceTerminating, true
	}
	end := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
	if before := object.GetDeletionTimestamp(); before != nil && !end.Before(before) {
		return takesTime
	}
	object.SetDeletionTimestamp(&end)
	if _, namespace := object.(*corev1.Namespace); !namespace {
		object.SetDeletionGracePeriodSeconds(&grace)
	}
	if pod, ok := object.(*corev1.Pod); ok {
		pod.Generation++
	}
	return takesTime
}

// podGrace is how long a pod may take to end: no time if it runs nowhere.
func podGrace(pod *corev1.Pod, options *metav1.DeleteOptions) int64 {
	grace := int64(30)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		grace = *own
	}
	if options.GracePeriodSeconds != nil {
		grace = max(0, *options.GracePeriodSeconds)
	}
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.Spec.NodeName == "" || ended {
		return 0
	}
	return grace
}
