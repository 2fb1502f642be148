package policies

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// Upper are the policies of the upper cluster. They are watched once a process, from when somebody needs them.
type Upper struct {
	policies cache.SharedIndexInformer
	gone     pair.Gone
	wanted   chan struct{}
	once     sync.Once
	denied   pair.Denied

	mu    sync.Mutex
	users map[*services.Member]func(key string)
}

// NewUpper returns one that watches nothing before Run and Want.
func NewUpper(client kubernetes.Interface) (*Upper, error) {
	u := &Upper{
		policies: networkinginformers.NewNetworkPolicyInformer(client, "", 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
		wanted:   make(chan struct{}), users: map[*services.Member]func(key string){},
	}
	if err := u.policies.SetWatchErrorHandlerWithContext(u.denied.Handle); err != nil {
		return nil, fmt.Errorf("watching upper network policies: %w", err)
	}
	if _, err := u.policies.AddEventHandler(u.gone.Handler(u.look)); err != nil {
		return nil, fmt.Errorf("watching upper network policies: %w", err)
	}
	return u, nil
}

// Forbidden reports whether the upper cluster does not let them be read.
func (u *Upper) Forbidden() bool { return u.denied.Says(u.synced()) }

func (u *Upper) synced() bool { return u.policies.HasSynced() }

// Want has them watched.
func (u *Upper) Want() { u.once.Do(func() { close(u.wanted) }) }

// Run watches until ctx ends.
func (u *Upper) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-u.wanted:
		u.policies.RunWithContext(ctx)
	}
	return nil
}

// join has a member told of every policy that something happens to, until it leaves.
func (u *Upper) join(m *services.Member, look func(key string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users[m] = look
}

func (u *Upper) leave(m *services.Member) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.users, m)
}

func (u *Upper) look(key string) {
	u.mu.Lock()
	users := slices.Collect(maps.Values(u.users))
	u.mu.Unlock()
	for _, look := range users {
		look(key)
	}
}

func (u *Upper) keys() []string { return u.policies.GetStore().ListKeys() }

// policy is an upper policy, nil if there is none. What it returns is shared.
func (u *Upper) policy(key string) *networkingv1.NetworkPolicy {
	object, ok, _ := u.policies.GetStore().GetByKey(key) // A cache never fails.
	if !ok {
		return nil
	}
	return object.(*networkingv1.NetworkPolicy)
}

// in are the policies of a namespace.
func (u *Upper) in(namespace string) (found []*networkingv1.NetworkPolicy) {
	objects, _ := u.policies.GetIndexer().ByIndex(cache.NamespaceIndex, namespace) // The index exists.
	for _, object := range objects {
		found = append(found, object.(*networkingv1.NetworkPolicy))
	}
	return found
}
