package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	endpointsliceutil "k8s.io/endpointslice/util"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
)

// Times of a keeper.
const (
	firstRetry   = 50 * time.Millisecond
	slowestRetry = 30 * time.Second
	gather       = 100 * time.Millisecond // events of so long are answered with one write
	later        = 2 * time.Second        // while the cluster is silent, or nothing may be done there
)

// perSlice is how many endpoints a slice has at the most, as in Kubernetes (--max-endpoints-per-slice).
const perSlice = 100

// Reasons of events on Services.
const (
	reasonNotBrought   = "NotBrought"
	reasonNameConflict = "NameConflict"
)

// Mode says which Services come.
type Mode string

// The ways.
const (
	All       Mode = "all"       // those of all namespaces that opted in; in isolated clusters as Namespace
	Namespace Mode = "namespace" // those of namespaces with pods on the virtual node
	None      Mode = "none"
)

// Setup is what a keeper works between and with.
type Setup struct {
	*Member
	Mode Mode
	// Target is the virtual node as it is labelled now.
	Target func() translate.Target
	Upper  *Upper
	Hub    *Hub
	Lower  kubernetes.Interface
	// Namespaces are those of the upper cluster.
	Namespaces corelisters.NamespaceLister
	// Choice says which of them take part.
	Choice  namespaces.Choice
	Changes cache.SharedIndexInformer // of namespaces
	// Inhabited reports whether pods of an upper namespace are bound to the virtual node, and may go below.
	Inhabited func(namespace string) bool
	// Room sees to it that the lower namespace of an upper one is there, see namespaces.Keeper.Use.
	Room func(ctx context.Context, upper string) (namespaces.Used, error)
	// Barred reports whether nothing may be done in the lower cluster.
	Barred func() bool
	// Absent is how long a Service that was not seen to go above may be missing there before it is taken away below.
	Absent time.Duration
	// Zone is that of a lower node, "" if it has none.
	Zone   func(node string) string
	Events record.EventRecorder
	Log    *slog.Logger
}

// Keeper looks after the Services of one virtual node's cluster. Its queue holds the namespace/name of upper Services. Several keepers
// may look after one cluster: each notes on a Service that it needs it, and the first of them writes its slices.
type Keeper struct {
	Setup
	identity         string
	queue            *queue.Queue
	services, slices cache.SharedIndexInformer
	tracker          *endpointsliceutil.EndpointSliceTracker
	reconciler       *endpointslice.Reconciler

	denied pair.Denied // the lower cluster does not let Services or slices be read
}

// New returns a keeper that does nothing before Run.
func New(setup Setup, identity string) (*Keeper, error) {
	ours := labels.Set{keys.Upper: identity}
	slices := labels.Set{keys.Upper: identity, discoveryv1.LabelManagedBy: translate.ManagedBy}
	selecting := func(set labels.Set) func(*metav1.ListOptions) {
		return func(o *metav1.ListOptions) { o.LabelSelector = set.String() }
	}
	k := &Keeper{
		Setup: setup, identity: identity, queue: queue.New("service", setup.Log, firstRetry, slowestRetry),
		services: coreinformers.NewFilteredServiceInformer(setup.Lower, "", 0, cache.Indexers{}, selecting(ours)),
		slices: discoveryinformers.NewFilteredEndpointSliceInformer(setup.Lower, "", 0,
			cache.Indexers{bySliceService: indexBySliceService}, selecting(slices)),
		tracker: endpointsliceutil.NewEndpointSliceTracker(),
	}
	k.reconciler = endpointslice.NewReconciler(setup.Lower, nodes(setup.Zone), perSlice, k.tracker, nil, setup.Events, translate.ManagedBy,
		endpointslice.WithPreferSameTrafficDistributionEnabled(true))
	for what, informer := range map[string]cache.SharedIndexInformer{"services": k.services, "slices": k.slices} {
		if err := informer.SetTransform(withoutManagedFields); err != nil {
			return nil, fmt.Errorf("watching %s of %s: %w", what, setup.Name, err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(k.denied.Handle); err != nil {
			return nil, fmt.Errorf("watching %s of %s: %w", what, setup.Name, err)
		}
	}
	if _, err := k.services.AddEventHandler(tombstone.Handler(func(s *corev1.Service) { k.look(pair.UpperKey(s)) })); err != nil {
		return nil, fmt.Errorf("watching services of %s: %w", setup.Name, err)
	}
	if _, err := k.slices.AddEventHandler(k.sliceHandler()); err != nil {
		return nil, fmt.Errorf("watching slices of %s: %w", setup.Name, err)
	}
	return k, nil
}

// Forbidden says which cluster does not let Services or their slices be read; "" if both do.
func (k *Keeper) Forbidden() string {
	switch {
	case k.Upper.denied.Says(k.Upper.synced()):
		return "The upper cluster does not let Services and EndpointSlices be listed and watched, or has none"
	case k.denied.Says(k.services.HasSynced() && k.slices.HasSynced()):
		return "The lower cluster does not let Services and EndpointSlices be listed and watched, or has none"
	default:
		return ""
	}
}

func (k *Keeper) sliceHandler() cache.ResourceEventHandler {
	look := func(slice *discoveryv1.EndpointSlice) {
		if service := k.lowerService(sliceKey(slice)); service != nil {
			k.look(pair.UpperKey(service))
		}
	}
	seen := tombstone.Handler(func(slice *discoveryv1.EndpointSlice) {
		if k.tracker.ShouldSync(slice) {
			look(slice)
		}
	})
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { seen.OnAdd(object, false) }, UpdateFunc: seen.OnUpdate,
		DeleteFunc: func(object any) {
			last, _ := tombstone.Unwrap(object)
			if slice, ok := last.(*discoveryv1.EndpointSlice); ok && (!k.tracker.Has(slice) || !k.tracker.HandleDeletion(slice)) {
				look(slice)
			}
		},
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	if k.Mode == None {
		k.clear(ctx)
		return
	}
	k.Upper.Want()
	k.Hub.join(k.Member, k)
	defer k.Hub.leave(k.Member)
	var group sync.WaitGroup
	for _, informer := range []cache.SharedIndexInformer{k.services, k.slices} {
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	group.Go(func() { k.work(ctx) })
	group.Go(func() { queue.Resync(ctx, k.every, k.queue.Add) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
}

// work takes keys of the queue once every cache has been filled.
func (k *Keeper) work(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), k.services.HasSynced, k.slices.HasSynced, k.Changes.HasSynced, k.Below.HasSynced, k.Upper.synced) {
		return
	}
	registration, err := k.Changes.AddEventHandler(tombstone.Handler(func(n *corev1.Namespace) { k.LookIn(n.Name) }))
	if err != nil {
		k.Log.Error("Upper namespaces cannot be watched, their Services are looked at once a minute", "err", err)
	} else {
		defer func() { _ = k.Changes.RemoveEventHandler(registration) }() // It fails where the informer has ended.
	}
	k.lookAtAll()
	k.queue.Work(ctx, k.reconcile)
}

// every is the keys of all Services, above and below.
func (k *Keeper) every() []string {
	all := k.Upper.services.GetStore().ListKeys()
	for _, object := range k.services.GetStore().List() {
		all = append(all, pair.UpperKey(object.(*corev1.Service)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (k *Keeper) look(key string) {
	if k.Mode != None {
		k.queue.AddAfter(key, gather)
	}
}

func (k *Keeper) lookAtAll() {
	for _, key := range k.every() {
		k.queue.Add(key)
	}
}

// LookIn has the Services of an upper namespace looked at: it opted in, or has its first pod here, or its last.
func (k *Keeper) LookIn(namespace string) {
	found, _ := k.Upper.lister.Services(namespace).List(labels.Everything()) // A cache never fails.
	for _, service := range found {
		k.look(service.Namespace + "/" + service.Name)
	}
}

// HandleBelow returns what is told of every change of a lower pod of the virtual node.
func (k *Keeper) HandleBelow() cache.ResourceEventHandler {
	if k.Mode == None || !k.Flat {
		return cache.ResourceEventHandlerFuncs{} // Its own controllers look after it.
	}
	return k.Hub.handler(k.Upper)
}

// wanted reports whether an upper Service is to be below.
func (k *Keeper) wanted(upper *corev1.Service) bool {
	if upper.Namespace == metav1.NamespaceDefault && upper.Name == "kubernetes" {
		return false // It is each cluster's own.
	}
	if k.Inhabited(upper.Namespace) {
		return true
	}
	namespace, err := k.Namespaces.Get(upper.Namespace)
	return err == nil && k.Mode == All && k.Flat && k.Choice.Takes(namespace) && namespace.DeletionTimestamp == nil
}

// reconcile brings one Service and its slices in line.
func (k *Keeper) reconcile(ctx context.Context, key string) (again time.Duration, err error) {
	if k.Barred() || !k.Reachable() {
		return later, nil
	}
	upper := k.Upper.service(key)
	if upper == nil && k.cached(key) != nil {
		if left := k.Upper.gone.Left(key, k.Absent); left > 0 {
			return left, nil
		}
	}
	if upper == nil || upper.DeletionTimestamp != nil || !k.wanted(upper) {
		return 0, k.drop(ctx, key)
	}
	lower, err := k.put(ctx, upper)
	switch {
	case errors.Is(err, pair.ErrForeign):
		k.tell(upper, reasonNameConflict, err)
		return 0, nil // It is looked at again with the next resync.
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return later, nil
	case errors.Is(err, namespaces.ErrForeign), pair.Lasting(err):
		k.tell(upper, reasonNotBrought, err)
		return 0, nil
	case err != nil || lower == nil:
		return 0, err
	}
	if err = k.putSlices(ctx, upper, lower); errors.Is(err, errStale) {
		return firstRetry, nil
	}
	return 0, err
}

// tell tells the owner of a Service that it is not in the lower cluster.
func (k *Keeper) tell(upper *corev1.Service, reason string, err error) {
	k.Events.Event(upper, corev1.EventTypeWarning, reason, fmt.Sprintf("In cluster %s: %v", k.Name, err))
}
