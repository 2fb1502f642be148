package lower

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// kind is one kind of object that is watched.
type kind struct {
	source   source
	name     string
	informer cache.SharedIndexInformer
}

func newKind(client kubernetes.Interface, group rest.Interface, name string, example runtime.Object) *kind {
	k := &kind{name: name}
	k.informer = k.source.informer(client, group, name, example, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	return k
}

// prepare makes the informer ready to be started.
func (k *kind) prepare(log *slog.Logger, event func()) error {
	if err := k.informer.SetTransform(withoutFields); err != nil {
		return fmt.Errorf("watching %s: %w", k.name, err)
	}
	if err := k.informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		if ctx.Err() == nil {
			log.Warn("Watching lower cluster failed, trying again", "kind", k.name, "err", err)
		}
	}); err != nil {
		return fmt.Errorf("watching %s: %w", k.name, err)
	}
	if _, err := k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { event() }, UpdateFunc: func(any, any) { event() }, DeleteFunc: func(any) { event() },
	}); err != nil {
		return fmt.Errorf("watching %s: %w", k.name, err)
	}
	return nil
}

// withoutFields drops what weighs and nobody reads.
func withoutFields(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}

// known reports whether the kind has been listed, or may not be or is not there at all.
func (k *kind) known() bool {
	if k.informer.HasSynced() {
		return true
	}
	_, err := k.source.failing()
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
}

// listed returns what an informer holds of a namespace, "" for all, in the order of names.
func listed[T metav1.Object](informer cache.SharedIndexInformer, namespace string) []T {
	objects := informer.GetStore().List()
	if namespace != metav1.NamespaceAll {
		objects, _ = informer.GetIndexer().ByIndex(cache.NamespaceIndex, namespace) // The informer was made with this index.
	}
	found := make([]T, 0, len(objects))
	for _, object := range objects {
		found = append(found, object.(T))
	}
	slices.SortFunc(found, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return found
}
