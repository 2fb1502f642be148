package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// held is what is kept of an object below: who it is, and a sum in place of its content.
type held struct {
	metav1.ObjectMeta
	kind      string
	sum       string
	immutable bool
	secret    corev1.SecretType
}

// key is that of the upper object it stands for.
func (h *held) key() Key {
	return Key{translate.Reference{Kind: h.kind, Name: h.Annotations[keys.UpperName]}, h.Annotations[keys.UpperNamespace]}
}

// trim is the transform of the informers of lower objects.
func trim(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.ConfigMap:
		return holding(o), nil
	case *corev1.Secret:
		return holding(o), nil
	}
	return object, nil
}

// holding is what is kept of an object, above or below.
func holding(object metav1.Object) *held {
	h := &held{ObjectMeta: metav1.ObjectMeta{
		Name: object.GetName(), Namespace: object.GetNamespace(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
		Labels: object.GetLabels(), Annotations: object.GetAnnotations(),
	}}
	sum := sha256.New()
	switch o := object.(type) {
	case *corev1.ConfigMap:
		h.kind, h.immutable = translate.KindConfigMap, o.Immutable != nil && *o.Immutable
		write(sum, o.Data, func(value string) []byte { return []byte(value) })
		write(sum, o.BinaryData, func(value []byte) []byte { return value })
	case *corev1.Secret:
		h.kind, h.immutable, h.secret = translate.KindSecret, o.Immutable != nil && *o.Immutable, o.Type
		write(sum, o.Data, func(value []byte) []byte { return value })
	}
	fmt.Fprintf(sum, "%t %s", h.immutable, h.secret)
	h.sum = hex.EncodeToString(sum.Sum(nil))
	return h
}

// write adds a map to a sum, so that no two maps give the same bytes.
func write[V any](sum hash.Hash, data map[string]V, bytes func(V) []byte) {
	fmt.Fprintf(sum, "%d;", len(data))
	for _, key := range slices.Sorted(maps.Keys(data)) {
		value := bytes(data[key])
		fmt.Fprintf(sum, "%d %s %d ", len(key), key, len(value))
		sum.Write(value)
	}
}

// room is where objects of one kind are kept in a lower cluster.
type room interface {
	get(ctx context.Context, namespace, name string) (metav1.Object, error)
	create(ctx context.Context, object metav1.Object) error
	update(ctx context.Context, object metav1.Object) error
	remove(ctx context.Context, of *held) error
}

// typed is the part of a typed client that is used.
type typed[T metav1.Object] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (T, error)
	Create(ctx context.Context, object T, o metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, o metav1.UpdateOptions) (T, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

type roomOf[T metav1.Object] struct {
	in func(namespace string) typed[T]
}

func (r roomOf[T]) get(ctx context.Context, namespace, name string) (metav1.Object, error) {
	return r.in(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (r roomOf[T]) create(ctx context.Context, object metav1.Object) error {
	_, err := r.in(object.GetNamespace()).Create(ctx, object.(T), metav1.CreateOptions{})
	return err
}

func (r roomOf[T]) update(ctx context.Context, object metav1.Object) error {
	_, err := r.in(object.GetNamespace()).Update(ctx, object.(T), metav1.UpdateOptions{})
	return err
}

// remove deletes the object as it was seen, and none that came after it.
func (r roomOf[T]) remove(ctx context.Context, of *held) error {
	return r.in(of.Namespace).Delete(ctx, of.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &of.UID, ResourceVersion: &of.ResourceVersion},
	})
}

// rooms are those of a lower cluster, by kind.
func rooms(client kubernetes.Interface) map[string]room {
	return map[string]room{
		translate.KindConfigMap: roomOf[*corev1.ConfigMap]{func(ns string) typed[*corev1.ConfigMap] { return client.CoreV1().ConfigMaps(ns) }},
		translate.KindSecret:    roomOf[*corev1.Secret]{func(ns string) typed[*corev1.Secret] { return client.CoreV1().Secrets(ns) }},
	}
}
