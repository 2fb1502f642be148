package virtualnode

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
)

// upperObjects are caches of those objects of the upper cluster that every virtual node looks at. They are watched
// once per process.
type upperObjects struct {
	factory    informers.SharedInformerFactory
	namespaces cache.SharedIndexInformer
	budgets    cache.SharedIndexInformer
}

func newUpperObjects(upper kubernetes.Interface) (*upperObjects, error) {
	factory := informers.NewSharedInformerFactory(upper, 0)
	u := &upperObjects{
		factory:    factory,
		namespaces: factory.Core().V1().Namespaces().Informer(),
		budgets:    factory.Policy().V1().PodDisruptionBudgets().Informer(),
	}
	for what, informer := range map[string]cache.SharedIndexInformer{"namespaces": u.namespaces, "budgets": u.budgets} {
		if err := informer.SetTransform(withoutManagedFields); err != nil {
			return nil, fmt.Errorf("watching upper %s: %w", what, err)
		}
	}
	return u, nil
}

// withoutManagedFields drops what nobody here reads.
func withoutManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// choice says which upper namespaces take part.
func (s *server) choice() namespaces.Choice {
	return namespaces.Choice{Everywhere: s.config.Everywhere}
}

// Namespaces lists the upper namespaces. What it returns is shared: nobody may change it.
func (u *upperObjects) Namespaces() corelisters.NamespaceLister {
	return u.factory.Core().V1().Namespaces().Lister()
}

// Budgets lists the upper PodDisruptionBudgets. What it returns is shared: nobody may change it.
func (u *upperObjects) Budgets() policylisters.PodDisruptionBudgetLister {
	return u.factory.Policy().V1().PodDisruptionBudgets().Lister()
}

// synced reports whether all caches have been filled.
func (u *upperObjects) synced() bool { return u.namespaces.HasSynced() && u.budgets.HasSynced() }

// run fills the caches and keeps them until ctx ends.
func (u *upperObjects) run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { u.namespaces.RunWithContext(ctx) })
	group.Go(func() { u.budgets.RunWithContext(ctx) })
	group.Wait()
	return nil
}
