package budgets

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	policyinformers "k8s.io/client-go/informers/policy/v1"
	"k8s.io/client-go/kubernetes"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
)

// Times of the keeper.
const (
	firstRetry   = 100 * time.Millisecond
	slowestRetry = 30 * time.Second
	gather       = 100 * time.Millisecond // events of so long are answered with one write
)

// Setup is what a keeper works between and with.
type Setup struct {
	// Name is that of the virtual node, Identity that of the upper cluster.
	Name, Identity string
	// LowerName is the name below of an upper namespace.
	LowerName func(upper string) string
	Lower     kubernetes.Interface
	// Budgets lists the upper budgets, Changes tells of them.
	Budgets policylisters.PodDisruptionBudgetLister
	Changes cache.SharedIndexInformer
	// Below are the lower pods that came through the virtual node, with the index cache.NamespaceIndex.
	Below *lower.Kept
	// Crowds are shared by all virtual nodes of the upper cluster in this process.
	Crowds *Crowds
	Log    *slog.Logger
}

// Keeper keeps the mirrors of budgets in one lower cluster, for one virtual node.
//
// Its queue holds the namespace/name of upper budgets.
type Keeper struct {
	Setup
	queue   *queue.Queue
	mirrors cache.SharedIndexInformer

	mu     sync.Mutex
	joined map[string]bool         // upper namespaces whose crowd is watched for this virtual node
	since  map[types.UID]time.Time // by budget: from when on this virtual node has had pods of it
}

// New returns a keeper that does nothing before Run.
func New(setup Setup) *Keeper {
	return &Keeper{
		Setup: setup,
		queue: queue.New("budget", setup.Log, firstRetry, slowestRetry),
		mirrors: policyinformers.NewFilteredPodDisruptionBudgetInformer(setup.Lower, "", 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{keys.Upper: setup.Identity, keys.VirtualNode: setup.Name}.String()
		}),
		joined: map[string]bool{}, since: map[types.UID]time.Time{},
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { k.mirrors.RunWithContext(ctx) })
	group.Go(func() { k.work(ctx) })
	group.Go(func() { queue.Resync(ctx, k.every, func(key string) { k.queue.Add(key) }) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
	k.leaveAll()
}

// work takes keys of the queue once every cache has been filled.
func (k *Keeper) work(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), k.mirrors.HasSynced, k.Changes.HasSynced, k.Below.HasSynced) {
		return
	}
	for _, watch := range []struct {
		informer informer
		handler  cache.ResourceEventHandler
	}{
		{k.Changes, tombstone.Handler(k.look)},
		{k.Below, tombstone.Handler(func(pod *corev1.Pod) { k.lookAt(pod.Annotations[keys.UpperNamespace]) })},
		{k.mirrors, tombstone.Handler(k.lookUp)},
	} {
		registration, err := watch.informer.AddEventHandler(watch.handler)
		if err != nil {
			k.Log.Error("Events of budgets cannot be had, they are looked at once a minute", "err", err)
			continue
		}
		defer func() { _ = watch.informer.RemoveEventHandler(registration) }() // It fails where the informer has ended.
	}
	k.queue.Work(ctx, k.reconcile)
}

// informer is what tells of objects.
type informer interface {
	AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error)
	RemoveEventHandler(registration cache.ResourceEventHandlerRegistration) error
}

func (k *Keeper) look(budget *policyv1.PodDisruptionBudget) {
	k.queue.AddAfter(budget.Namespace+"/"+budget.Name, gather)
}

// lookAt has all budgets of an upper namespace looked at.
func (k *Keeper) lookAt(namespace string) {
	budgets, err := k.Budgets.PodDisruptionBudgets(namespace).List(labels.Everything())
	if err != nil {
		k.Log.Error("Budgets cannot be listed", "namespace", namespace, "err", err)
	}
	for _, budget := range budgets {
		k.look(budget)
	}
}

// lookUp has the budget that a mirror stands for looked at.
func (k *Keeper) lookUp(mirror *policyv1.PodDisruptionBudget) {
	k.queue.AddAfter(pair.UpperKey(mirror), gather)
}

// every is the keys of all budgets, above and below.
func (k *Keeper) every() []string {
	k.leaveUnused() // Once a minute, as the keys are asked for.
	budgets, err := k.Budgets.List(labels.Everything())
	if err != nil {
		k.Log.Error("Budgets cannot be listed", "err", err)
	}
	var found []string
	for _, budget := range budgets {
		found = append(found, budget.Namespace+"/"+budget.Name)
	}
	for _, object := range k.mirrors.GetStore().List() {
		mirror := object.(*policyv1.PodDisruptionBudget)
		found = append(found, pair.UpperKey(mirror))
	}
	return found
}

// reconcile brings the mirror of one budget in line. again > 0 asks for another look after that time.
func (k *Keeper) reconcile(ctx context.Context, key string) (again time.Duration, err error) {
	namespace, name, _ := strings.Cut(key, "/")
	budget, err := k.Budgets.PodDisruptionBudgets(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("reading budget: %w", err)
	}
	present := k.present(namespace, name)
	if err != nil || !k.concerns(budget) {
		return 0, k.remove(ctx, present)
	}
	want, again, err := k.want(ctx, budget)
	if want == nil || err != nil {
		return again, err
	}
	return again, k.write(ctx, present, want)
}
