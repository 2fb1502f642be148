package lower

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

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
	told     atomic.Bool                                            // that the cluster has no such kind
	heard    atomic.Pointer[cache.ResourceEventHandlerRegistration] // says when whoever is told of events has been told of all that was listed
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
		switch {
		case ctx.Err() != nil:
		case !apierrors.IsNotFound(err):
			log.Warn("Watching lower cluster failed, trying again", "kind", k.name, "err", err)
		case !k.told.Swap(true): // A server that does not have it is asked again, as it may be upgraded, but not told of again.
			log.Info("Lower cluster has no such kind", "kind", k.name)
		}
	}); err != nil {
		return fmt.Errorf("watching %s: %w", k.name, err)
	}
	listed, err := k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { event() }, UpdateFunc: func(any, any) { event() }, DeleteFunc: func(any) { event() },
	})
	if err != nil {
		return fmt.Errorf("watching %s: %w", k.name, err)
	}
	k.heard.Store(&listed)
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
	if heard := k.heard.Load(); heard != nil && (*heard).HasSynced() || k.absent() {
		return true
	}
	_, err := k.source.failing()
	return apierrors.IsForbidden(err)
}

// absent reports whether the cluster says that it has no such kind: it is of another version, or does not offer it.
func (k *kind) absent() bool {
	_, err := k.source.failing()
	return apierrors.IsNotFound(err)
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
