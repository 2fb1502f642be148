package lower

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// Kept are the pods of a lower cluster that somebody selects, whole: what virtualnode works with. They come with the watch
// that feeds the snapshot, so that the lower API server sends each pod once. To its users it looks like an informer of its
// own: all objects are *corev1.Pod, a pod is in the cache before a handler hears of it, and one that is selected no
// more counts as deleted. What it returns is shared: nobody may change it.
type Kept struct{ informer cache.SharedIndexInformer }

// byKept indexes the entries of kept pods, all under "".
const byKept = "kept"

// Keep has the watch keep those pods whole, with indexers for them. It is called once, before Run.
func (w *Watch) Keep(selects func(*corev1.Pod) bool, indexers cache.Indexers) (*Kept, error) {
	ofEntries := cache.Indexers{byKept: func(object any) ([]string, error) {
		if whole(object) == nil {
			return nil, nil
		}
		return []string{""}, nil
	}}
	for name, index := range indexers {
		ofEntries[name] = func(object any) ([]string, error) {
			if pod := whole(object); pod != nil {
				return index(pod)
			}
			return nil, nil
		}
	}
	if err := w.pods.AddIndexers(ofEntries); err != nil {
		return nil, fmt.Errorf("indexing pods of %s: %w", w.Name, err)
	}
	w.keep = selects
	return &Kept{informer: w.pods}, nil
}

// whole is the pod of an entry, or of a tombstone of one; nil if it is not kept.
func whole(object any) *corev1.Pod {
	last, _ := tombstone.Unwrap(object)
	if entry, ok := last.(*podEntry); ok {
		return entry.whole
	}
	return nil
}

// HasSynced reports whether the cluster's pods have been listed.
func (k *Kept) HasSynced() bool { return k.informer.HasSynced() }

// List returns all of them.
func (k *Kept) List() []any {
	pods, _ := k.ByIndex(byKept, "") // Keep made the index.
	return pods
}

// GetByKey returns the pod of a namespace/name. The error is always nil.
func (k *Kept) GetByKey(key string) (pod any, exists bool, err error) {
	entry, ok, _ := k.informer.GetStore().GetByKey(key) // A cache never fails.
	if !ok || whole(entry) == nil {
		return nil, false, nil
	}
	return whole(entry), true, nil
}

// ByIndex returns the pods that an index of Keep has under a value; an error if there is no such index.
func (k *Kept) ByIndex(index, value string) ([]any, error) {
	pods, err := k.informer.GetIndexer().ByIndex(index, value)
	for i := range pods {
		pods[i] = whole(pods[i])
	}
	return pods, err
}

// ListIndexFuncValues returns the values under which an index of Keep has pods.
func (k *Kept) ListIndexFuncValues(index string) []string {
	return k.informer.GetIndexer().ListIndexFuncValues(index)
}

// AddEventHandler has a handler told of every change.
func (k *Kept) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return k.informer.AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: func(object any) bool { return whole(object) != nil },
		Handler: cache.ResourceEventHandlerDetailedFuncs{
			AddFunc:    func(object any, initial bool) { handler.OnAdd(whole(object), initial) },
			UpdateFunc: func(before, now any) { handler.OnUpdate(whole(before), whole(now)) },
			DeleteFunc: func(object any) {
				if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
					handler.OnDelete(cache.DeletedFinalStateUnknown{Key: tombstone.Key, Obj: whole(object)})
					return
				}
				handler.OnDelete(whole(object))
			},
		},
	})
}

// RemoveEventHandler ends that.
func (k *Kept) RemoveEventHandler(registration cache.ResourceEventHandlerRegistration) error {
	return k.informer.RemoveEventHandler(registration)
}
