package virtualnode

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/virtualnode/budgets"
	"github.com/tessera-k8s/tessera/virtualnode/events"
	"github.com/tessera-k8s/tessera/virtualnode/identity"
	"github.com/tessera-k8s/tessera/virtualnode/kubelet"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/node"
	"github.com/tessera-k8s/tessera/virtualnode/objects"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/refusals"
	"github.com/tessera-k8s/tessera/virtualnode/services"
	"github.com/tessera-k8s/tessera/virtualnode/tokens"
	"github.com/tessera-k8s/tessera/virtualnode/usage"
)

// snapshotPause is the time between two snapshots at least: what is made of them is written twice a second at most.
const snapshotPause = 200 * time.Millisecond

// belowIndexers are the indexes of lower pods.
var belowIndexers = cache.Indexers{
	pair.ByUpper: pair.IndexByUpper, cache.NamespaceIndex: cache.MetaNamespaceIndexFunc, objects.ByObject: objects.IndexBelow,
}

// byLower indexes upper pods by the namespace/name that they have below.
const byLower = "lower"

// virtualNode is one lower cluster and the Node that stands for it.
type virtualNode struct {
	name   string
	broken string // why the kubeconfig cannot be used; "" if it can
	server *server
	config ClusterConfig // what holds for this cluster
	taking snapshot.Part // what of the lower cluster it stands for
	log    *slog.Logger

	stands   atomic.Pointer[stands] // which cluster the Node stands for; nil before the Node was looked at
	snapshot atomic.Pointer[snapshot.Snapshot]
	overlap  atomic.Pointer[string] // what node.Overlaps says; nil where the network is not flat
	keeper   *node.Keeper
	charges  node.Charges // of the pods bound to it
	homes    sync.Map     // upper namespaces with pods bound to it

	// nil where broken:
	watch    *lower.Watch
	lease    *identity.Lease
	devices  *lower.Devices
	pods     *pods.Reconciler
	refusals *refusals.Ledger
	orphans  *orphans.Ledger
	events   *events.Mirror
	spaces   *namespaces.Keeper
	budgets  *budgets.Keeper
	objects  *objects.Keeper
	tokens   *tokens.Keeper
	services *services.Keeper
	policies *policies.Keeper
	kubelet  *kubelet.Server           // nil where the configuration wants none
	usage    *usage.Reader             // nil as kubelet is
	self     cache.SharedIndexInformer // the Node itself, for its labels
	above    cache.SharedIndexInformer // upper pods bound to it
	below    *lower.Kept               // lower pods that came through it
}

// newVirtualNode wires a virtual node, in this order: who keeps its Node, what it watches, who looks after what, who is told
// of what. config is nil where the kubeconfig cannot be used, broken says why.
func newVirtualNode(s *server, name string, config *restclient.Config, broken string) (*virtualNode, error) {
	v := &virtualNode{name: name, broken: broken, server: s, config: s.config.cluster(name), log: s.log.With("cluster", name)}
	var err error
	if v.taking, err = lower.PartOf(v.config.rules()); err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: %w", name, err)
	}
	v.keeper = node.NewKeeper(node.Setup{
		Name: name, Client: s.upper, Log: v.log, Changes: s.metrics.nodeWrites.WithLabelValues(name),
		Observe: v.facts, Claimed: v.claimed, Standing: v.standing,
		ProviderID: func() string { return v.config.ProviderID.of(name, s.identity, s.provider) },
		Evictions:  s.evicting,
	})
	if config == nil {
		return v, nil
	}
	within := fenced(config, func() bool { return v.elsewhere() || !v.lease.Held() })
	if err := v.watchBoth(within); err != nil {
		return nil, err
	}
	if err := v.addKubelet(within); err != nil {
		return nil, err
	}
	if err := v.addLease(config); err != nil {
		return nil, err
	}
	if err := v.addParts(); err != nil {
		return nil, err
	}
	return v, v.addHandlers()
}

// watchBoth makes the caches of the lower cluster and of what of the upper one is this virtual node's.
func (v *virtualNode) watchBoth(config *restclient.Config) (err error) {
	s := v.server
	if v.watch, err = lower.NewWatch(v.name, s.identity, config, s.log, v.publish); err != nil {
		return err
	}
	v.watch.Pause = snapshotPause
	v.devices = lower.NewDevices(v.watch.Client(), v.log, v.keeper.Touch)
	v.self = coreinformers.NewFilteredNodeInformer(s.upper, 0, nil, selectField("metadata.name", v.name))
	v.above = coreinformers.NewFilteredPodInformer(s.upper, "", 0,
		cache.Indexers{
			byLower: v.lowerKey, cache.NamespaceIndex: cache.MetaNamespaceIndexFunc, objects.ByObject: objects.IndexAbove(v.target),
		}, selectField("spec.nodeName", v.name))
	ours := labels.SelectorFromSet(labels.Set{keys.Upper: s.identity, keys.VirtualNode: v.name})
	v.below, err = v.watch.Keep(func(pod *corev1.Pod) bool {
		return ours.Matches(labels.Set(pod.Labels)) && pair.Stands(pod, v.lowerNamespace)
	}, belowIndexers)
	return err
}

// addLease makes the lease without which nothing is written below. Its own requests cannot wait for it.
func (v *virtualNode) addLease(config *restclient.Config) error {
	client, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("building client of %s: %w", v.name, err)
	}
	accepted := func() string {
		if node := v.upperNode(); node != nil {
			return node.Annotations[keys.AcceptHolder]
		}
		return ""
	}
	v.lease = identity.New(client, v.server.identity, v.name, v.log, identity.Asks{
		Barred: v.elsewhere, Accepted: accepted, Changed: func() {
			v.keeper.Touch()
			v.pods.WakeAll()
		},
	})
	return nil
}

// addParts makes those who look after namespaces, budgets, pods and events.
func (v *virtualNode) addParts() (err error) {
	s, client := v.server, v.watch.Client()
	v.spaces, err = namespaces.New(namespaces.Setup{
		Name: v.name, Identity: s.identity, Upper: s.upper, Lower: client, LowerName: v.lowerNamespace,
		Rules: namespaces.Rules{PodSecurity: v.config.PodSecurity, Labels: v.config.NamespaceLabels, Open: v.config.OpenNamespaces},
		Above: s.above.Namespaces(), Changes: s.above.namespaces, Log: v.log,
	})
	if err != nil {
		return err
	}
	v.budgets = budgets.New(budgets.Setup{
		Name: v.name, Identity: s.identity, Lower: client, LowerName: v.lowerNamespace,
		Budgets: s.above.Budgets(), Changes: s.above.budgets, Below: v.below, Crowds: s.crowds, Log: v.log,
	})
	v.objects, err = objects.New(objects.Setup{
		Name: v.name, Target: v.target, Lower: client, Sources: s.sources, Above: indexed{v.above}, Below: v.below,
		Absent:  s.config.OrphanGrace.Duration,
		Welcome: func(upper *corev1.Pod) bool { return v.pods.Welcome(upper) }, Barred: v.barred, OwnNames: s.config.OwnNames, Log: v.log,
	}, s.identity)
	if err != nil {
		return err
	}
	v.tokens, err = tokens.New(tokens.Setup{
		Name: v.name, Identity: s.identity, Target: v.target, Upper: s.upper, Lower: client,
		Above: v.above.GetStore(), Synced: v.above.HasSynced, Below: v.below,
		Welcome: func(upper *corev1.Pod) bool { return v.pods.Welcome(upper) }, Barred: v.barred,
		RefreshAfter: s.config.TokenRefreshAfter.Duration, Events: s.events, Log: v.log,
	})
	if err != nil {
		return err
	}
	if err := v.addServices(); err != nil {
		return err
	}
	v.orphans = orphans.New(s.config.OrphanGrace.Duration, s.whole.brokenAt)
	v.refusals = refusals.New(v.keeper.Touch)
	setup := pods.Setup{
		Name: v.name, Target: v.target, Barred: v.barred, Reachable: v.reachable,
		NodeReady: v.nodeReady, NodeUsable: v.nodeUsable, Namespace: v.spaces.Use, Known: v.knownVersion, Objects: v.bring,
		OwnerInOpenNamespaces: *v.config.OwnerInOpenNamespaces,
		ShowAddresses:         v.config.Network == NetworkFlat, AcceptUnasked: v.config.Unasked == UnaskedAccept,
		Namespaces: s.above.Namespaces(), Choice: s.choice(), Upper: s.upper.CoreV1(), Lower: client.CoreV1(),
		OnLost: up.OnLost(*v.config.OnLost), DefaultToleration: s.config.DefaultToleration.Duration, Endured: s.endured,
		Above: v.above.GetStore(), Below: v.below, Orphans: v.orphans,
		Refusals: v.refusals, Hints: s.hints, Events: s.events, Metrics: s.metrics.pods, Log: v.log,
	}
	v.pods = pods.New(setup)
	v.events = events.New(events.Setup{
		Cluster: v.name, Above: v.upperOf, Below: v.below,
		Upper: s.upper.CoreV1(), Lower: client.CoreV1(), Metrics: s.metrics.events, Log: v.log,
	})
	return nil
}

func selectField(name, value string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) { o.FieldSelector = fields.OneTermEqualSelector(name, value).String() }
}

// addHandlers has this virtual node told of all that concerns it.
func (v *virtualNode) addHandlers() error {
	if err := v.above.SetTransform(withoutManagedFields); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	if err := v.above.SetWatchErrorHandlerWithContext(v.server.whole.watchFailed); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	touch := func(any) { v.keeper.Touch() } // Somebody may have labelled the Node.
	_, err := v.self.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: touch, DeleteFunc: touch, UpdateFunc: func(_, object any) { touch(object) },
	})
	if err != nil {
		return fmt.Errorf("watching node %s: %w", v.name, err)
	}
	deleted := func(upper *corev1.Pod, seen bool) {
		if seen {
			v.orphans.Saw(upper.UID, time.Now())
		}
	}
	changed := func(upper *corev1.Pod) { deleted(upper, upper.DeletionTimestamp != nil) }
	if _, err := v.above.AddEventHandler(v.charges.Handler(v.keeper.Touch)); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	if _, err := v.above.AddEventHandler(v.looks(pair.KeyOf, changed, deleted)); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	needs := tombstone.Handler(func(upper *corev1.Pod) {
		v.objects.LookAbove(upper)
		v.tokens.Look(upper, pair.KeyOf(upper))
	})
	if _, err := v.above.AddEventHandler(needs); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	needed := tombstone.Handler(func(below *corev1.Pod) {
		v.objects.LookBelow(below)
		v.tokens.Look(below, pair.UpperKey(below))
	})
	if _, err := v.below.AddEventHandler(needed); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	inhabits := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { v.inhabit(object.(*corev1.Pod).Namespace, true) },
		DeleteFunc: tombstone.Handler(func(upper *corev1.Pod) { v.inhabit(upper.Namespace, false) }).OnDelete,
	}
	if _, err := v.above.AddEventHandler(inhabits); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	if _, err := v.below.AddEventHandler(v.services.HandleBelow()); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	gone := v.pods.Gone
	if _, err := v.below.AddEventHandler(v.looks(pair.UpperKey, func(*corev1.Pod) {}, gone)); err != nil {
		return fmt.Errorf("watching pods of %s: %w", v.name, err)
	}
	return nil
}

// looks turns events into keys of the queue. also hears of every event, gone of deletions: tombstones count as such, but not as
// deletions that were seen. What they stand for is missing from a new list, and a list may come out of a backup.
func (v *virtualNode) looks(
	key func(metav1.Object) string, also func(*corev1.Pod), gone func(pod *corev1.Pod, seen bool),
) cache.ResourceEventHandler {
	take := func(object any) {
		if pod, ok := object.(*corev1.Pod); ok {
			also(pod)
			v.pods.Look(key(pod))
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: take, UpdateFunc: func(_, object any) { take(object) },
		DeleteFunc: func(object any) {
			last, seen := tombstone.Unwrap(object)
			if pod, ok := last.(*corev1.Pod); ok {
				gone(pod, seen)
				take(pod)
			}
		},
	}
}

// run serves the virtual node until ctx ends, or until the lower cluster went back to a backup: with history.ErrWentBack.
func (v *virtualNode) run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	if v.kubelet != nil {
		v.kubelet.Open(ctx) // Before the Node is written, so that it has the port at once.
		group.Go(func() { v.kubelet.Run(ctx) })
		group.Go(func() { v.usage.Run(ctx) })
	}
	group.Go(func() { v.keeper.Run(ctx) })
	if v.watch != nil {
		group.Go(func() {
			defer stop()
			err = v.watch.Run(ctx)
		})
		group.Go(func() { v.lease.Run(ctx) })
		group.Go(func() { v.devices.Run(ctx) })
		group.Go(func() { v.self.RunWithContext(ctx) })
		group.Go(func() { v.above.RunWithContext(ctx) })
		group.Go(func() { v.watchHealth(ctx) })
		if v.server.config.RenewTokens {
			group.Go(func() { v.renewToken(ctx) })
		}
		group.Go(func() { v.spaces.Run(ctx) })
		group.Go(func() { v.budgets.Run(ctx) })
		group.Go(func() { v.objects.Run(ctx) })
		group.Go(func() { v.tokens.Run(ctx) })
		group.Go(func() { v.services.Run(ctx) })
		group.Go(func() { v.policies.Run(ctx) })
		group.Go(func() {
			if cache.WaitForCacheSync(ctx.Done(), v.above.HasSynced, v.below.HasSynced, v.server.above.synced) {
				v.log.Info("Pods are synced", "above", len(v.above.GetStore().ListKeys()), "below", len(v.below.List()))
				group.Go(func() { v.events.Run(ctx) })
				v.pods.Run(ctx, v.server.config.PodWorkers)
			}
		})
	}
	group.Wait()
	if v.objects != nil {
		v.objects.Leave()
	}
	return err
}

// indexed is an informer as a cache with indexes.
type indexed struct{ cache.SharedIndexInformer }

// ByIndex returns the objects that an index has under a value.
func (i indexed) ByIndex(index, value string) ([]any, error) {
	return i.GetIndexer().ByIndex(index, value)
}

// ListIndexFuncValues returns the values under which an index has objects.
func (i indexed) ListIndexFuncValues(index string) []string {
	return i.GetIndexer().ListIndexFuncValues(index)
}
