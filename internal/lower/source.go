package lower

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// source lists and watches one kind of object and notes since when that has failed. A probe that succeeds says
// nothing of a list that is forbidden: without this, a frozen view would look fresh.
type source struct {
	mu    sync.Mutex
	since time.Time // zero while it works
	err   error
}

// informer returns an informer of a resource of an API group that reads through the source.
func (s *source) informer(client kubernetes.Interface, group rest.Interface, resource string, example runtime.Object,
	indexers cache.Indexers) cache.SharedIndexInformer {
	inner := cache.NewListWatchFromClient(group, resource, metav1.NamespaceAll, fields.Everything())
	noting := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := inner.ListWithContext(ctx, options)
			s.note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			watching, err := inner.WatchWithContext(ctx, options)
			s.note(err)
			return watching, err
		},
	}
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(noting, client), example, 0, indexers)
}

func (s *source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	switch {
	case err == nil:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = time.Now()
	}
}

// failing returns since when, and why, or a zero time.
func (s *source) failing() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.err
}
