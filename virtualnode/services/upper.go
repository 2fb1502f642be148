package services

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// bySliceService indexes slices by the namespace/name of their Service.
const bySliceService = "service"

func indexBySliceService(object any) ([]string, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	return []string{sliceKey(slice)}, nil
}

// sliceKey is the namespace/name of the Service that a slice belongs to.
func sliceKey(slice *discoveryv1.EndpointSlice) string {
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

// Upper are the Services and slices of the upper cluster. They are watched once a process, from when somebody needs them.
type Upper struct {
	services, slices cache.SharedIndexInformer
	lister           corelisters.ServiceLister

	wanted chan struct{}
	once   sync.Once
	denied pair.Denied
	gone   pair.Gone
}

// NewUpper returns one that watches nothing before Run and Want. look hears the namespace/name of every Service that something happens
// to.
func NewUpper(client kubernetes.Interface, look func(key string)) (*Upper, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	u := &Upper{
		services: factory.Core().V1().Services().Informer(), slices: factory.Discovery().V1().EndpointSlices().Informer(),
		lister: factory.Core().V1().Services().Lister(), wanted: make(chan struct{}),
	}
	if err := u.slices.AddIndexers(cache.Indexers{bySliceService: indexBySliceService}); err != nil {
		return nil, fmt.Errorf("watching upper slices: %w", err)
	}
	for what, watch := range map[string]struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		"services": {u.services, u.gone.Handler(look)},
		"slices":   {u.slices, tombstone.Handler(func(s *discoveryv1.EndpointSlice) { look(sliceKey(s)) })},
	} {
		if err := watch.informer.SetTransform(withoutManagedFields); err != nil {
			return nil, fmt.Errorf("watching upper %s: %w", what, err)
		}
		if err := watch.informer.SetWatchErrorHandlerWithContext(u.denied.Handle); err != nil {
			return nil, fmt.Errorf("watching upper %s: %w", what, err)
		}
		if _, err := watch.informer.AddEventHandler(watch.handler); err != nil {
			return nil, fmt.Errorf("watching upper %s: %w", what, err)
		}
	}
	return u, nil
}

func withoutManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

func (u *Upper) synced() bool { return u.services.HasSynced() && u.slices.HasSynced() }

// Want has them watched.
func (u *Upper) Want() { u.once.Do(func() { close(u.wanted) }) }

// Run watches until ctx ends.
func (u *Upper) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-u.wanted:
	}
	var group sync.WaitGroup
	group.Go(func() { u.services.RunWithContext(ctx) })
	group.Go(func() { u.slices.RunWithContext(ctx) })
	group.Wait()
	return nil
}

// service is an upper Service, nil if there is none. What it returns is shared.
func (u *Upper) service(key string) *corev1.Service {
	object, ok, _ := u.services.GetStore().GetByKey(key) // A cache never fails.
	if !ok {
		return nil
	}
	return object.(*corev1.Service)
}

// slicesOf are the upper slices of a Service.
func (u *Upper) slicesOf(key string) (found []*discoveryv1.EndpointSlice) {
	objects, _ := u.slices.GetIndexer().ByIndex(bySliceService, key) // The index exists.
	for _, object := range objects {
		found = append(found, object.(*discoveryv1.EndpointSlice))
	}
	return found
}
