package namespaces

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
)

// Times of the keeper.
const (
	firstRetry   = 200 * time.Millisecond
	slowestRetry = 30 * time.Second
)

// Setup is what a keeper works between and with.
type Setup struct {
	// Name is that of the virtual node, Identity that of the upper cluster.
	Name, Identity string
	// LowerName is the name below of an upper namespace.
	LowerName    func(upper string) string
	Rules        Rules
	Upper, Lower kubernetes.Interface
	// Above lists the upper namespaces, Changes tells of them.
	Above   corelisters.NamespaceLister
	Changes cache.SharedIndexInformer
	Log     *slog.Logger
}

// Keeper looks after the lower namespaces of one virtual node.
//
// Its queue holds names of lower namespaces. Several keepers may look after one namespace, those of virtual nodes that
// lead to the same lower cluster: they write the same, and each deletes it only when it is of no use to any.
type Keeper struct {
	Setup
	queue *queue.Queue
	below cache.SharedIndexInformer // lower namespaces with our mark

	mu       sync.Mutex
	open     map[string]opened // foreign namespaces that were found open
	stays    map[string]stays  // namespaces whose upper ones have gone
	counting map[string]bool   // namespaces that have our quota
}

// New returns a keeper. Use works at once, the rest when it is run.
func New(setup Setup) (*Keeper, error) {
	k := &Keeper{
		Setup: setup,
		queue: queue.New("namespace", setup.Log, firstRetry, slowestRetry),
		below: coreinformers.NewFilteredNamespaceInformer(setup.Lower, 0, nil, func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{keys.Upper: setup.Identity}.String()
		}),
		open: map[string]opened{}, stays: map[string]stays{}, counting: map[string]bool{},
	}
	_, err := k.below.AddEventHandler(tombstone.Handler(func(below *corev1.Namespace) { k.queue.Add(below.Name) }))
	if err != nil {
		return nil, fmt.Errorf("watching namespaces of %s: %w", setup.Name, err)
	}
	return k, nil
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	registration, err := k.Changes.AddEventHandler(tombstone.Handler(func(upper *corev1.Namespace) {
		k.queue.Add(k.LowerName(upper.Name))
	}))
	if err != nil {
		k.Log.Error("Upper namespaces cannot be watched, changes come down once a minute", "err", err)
	} else {
		defer func() { _ = k.Changes.RemoveEventHandler(registration) }() // It fails where the informer has ended.
	}
	var group sync.WaitGroup
	group.Go(func() { k.below.RunWithContext(ctx) })
	group.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), k.below.HasSynced, k.Changes.HasSynced) {
			k.queue.Work(ctx, k.reconcile)
		}
	})
	group.Go(func() { queue.Resync(ctx, k.below.GetStore().ListKeys, func(name string) { k.queue.Add(name) }) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
}

// reconcile brings one lower namespace in line. again > 0 asks for another look after that time.
func (k *Keeper) reconcile(ctx context.Context, name string) (again time.Duration, err error) {
	lower := k.cached(name)
	if lower == nil {
		k.forget(name)
		return 0, nil
	}
	if lower.DeletionTimestamp != nil {
		return 0, nil
	}
	of := lower.Annotations[keys.UpperName]
	if of == "" {
		if of = name; k.LowerName(of) != name {
			return 0, nil // Nobody can tell what it stands for.
		}
	}
	upper, err := k.Above.Get(of)
	switch {
	case apierrors.IsNotFound(err):
		return k.leave(ctx, lower, of)
	case err != nil:
		return 0, fmt.Errorf("reading the upper namespace %s: %w", of, err)
	case k.LowerName(of) != name:
		return 0, nil // It is from a time when the names were mapped differently, and still in use above.
	}
	return 0, k.inUse(ctx, upper, lower)
}

// inUse looks after a namespace whose upper one is there.
func (k *Keeper) inUse(ctx context.Context, upper, lower *corev1.Namespace) error {
	if err := k.stopCounting(ctx, lower.Name); err != nil {
		return err
	}
	k.forget(lower.Name)
	return k.tend(ctx, upper, lower)
}

// cached is a lower namespace of ours, nil if the cache has none of that name.
func (k *Keeper) cached(name string) *corev1.Namespace {
	object, ok, _ := k.below.GetStore().GetByKey(name)
	if !ok {
		return nil
	}
	return object.(*corev1.Namespace)
}

func (k *Keeper) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.stays, name)
	delete(k.counting, name)
}
