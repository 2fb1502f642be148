package policies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/tombstone"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// Times of a keeper.
const (
	firstRetry   = 100 * time.Millisecond
	slowestRetry = 30 * time.Second
	gather       = 200 * time.Millisecond // events of so long are answered with one write
	later        = 2 * time.Second        // while the cluster is silent, or nothing may be done there
)

// Reasons of events on policies.
const (
	reasonNotTheSame   = "NotTheSame"
	reasonNotBrought   = "NotBrought"
	reasonNameConflict = "NameConflict"
)

// ErrNotTheSame is a policy that selects a pod and cannot mean the same in the lower cluster.
var ErrNotTheSame = errors.New("a NetworkPolicy cannot mean the same in the lower cluster")

// Mode says what becomes of policies.
type Mode string

// The ways.
const (
	Ignore Mode = "ignore" // what cannot mean the same is left out, and told: fewer are let in or out
	Refuse Mode = "refuse" // the same, and pods that such a policy selects do not come
	None   Mode = "none"   // none comes
)

// Setup is what a keeper works between and with.
type Setup struct {
	*services.Member
	Mode   Mode
	Target func() translate.Target
	Upper  *Upper
	Hub    *services.Hub
	Lower  kubernetes.Interface
	// Namespaces are those of the upper cluster, Changes tells of them.
	Namespaces corelisters.NamespaceLister
	// Choice says which of them take part.
	Choice  namespaces.Choice
	Changes cache.SharedIndexInformer
	// Inhabited reports whether pods of an upper namespace are bound to the virtual node, and may go below.
	Inhabited func(namespace string) bool
	// Room sees to it that the lower namespace of an upper one is there, see namespaces.Keeper.Use.
	Room func(ctx context.Context, upper string) (namespaces.Used, error)
	// Barred reports whether nothing may be done in the lower cluster.
	Barred func() bool
	// Absent is how long a policy that was not seen to go above may be missing there before it is taken away below.
	Absent time.Duration
	Events record.EventRecorder
	Log    *slog.Logger
}

// Keeper looks after the policies in one virtual node's cluster. Its queue holds the namespace/name of upper ones.
type Keeper struct {
	Setup
	identity string
	queue    *queue.Queue
	below    cache.SharedIndexInformer
	denied   pair.Denied

	mu   sync.Mutex
	left map[string]string // what does not mean the same below, by key
}

// New returns a keeper that does nothing before Run, but for Bring.
func New(setup Setup, identity string) (*Keeper, error) {
	k := &Keeper{
		Setup: setup, identity: identity, queue: queue.New("networkpolicy", setup.Log, firstRetry, slowestRetry),
		below: networkinginformers.NewFilteredNetworkPolicyInformer(setup.Lower, "", 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{keys.Upper: identity}.String()
		}),
		left: map[string]string{},
	}
	if err := k.below.SetWatchErrorHandlerWithContext(k.denied.Handle); err != nil {
		return nil, fmt.Errorf("watching network policies of %s: %w", setup.Name, err)
	}
	_, err := k.below.AddEventHandler(tombstone.Handler(func(p *networkingv1.NetworkPolicy) { k.look(pair.UpperKey(p)) }))
	if err != nil {
		return nil, fmt.Errorf("watching network policies of %s: %w", setup.Name, err)
	}
	return k, nil
}

// Forbidden says which cluster does not let policies be read; "" if both do.
func (k *Keeper) Forbidden() string {
	switch {
	case k.Upper.Forbidden():
		return "The upper cluster does not let NetworkPolicies be listed and watched, or has none"
	case k.denied.Says(k.below.HasSynced()):
		return "The lower cluster does not let NetworkPolicies be listed and watched, or has none"
	default:
		return ""
	}
}

// NotTheSame says which policy does not mean the same below, and why; "" if all do. One example is enough.
func (k *Keeper) NotTheSame() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := ""
	for key, why := range k.left {
		if text := key + ": " + why; first == "" || text < first {
			first = text
		}
	}
	return first
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	if k.Mode == None {
		k.clear(ctx)
		return
	}
	k.Upper.Want()
	k.Upper.join(k.Member, k.look)
	defer k.Upper.leave(k.Member)
	if k.Flat {
		k.Hub.Watch(k.Member, k.lookAtAll)
		defer k.Hub.Watch(k.Member, nil)
	}
	var group sync.WaitGroup
	group.Go(func() { k.below.RunWithContext(ctx) })
	group.Go(func() { k.work(ctx) })
	group.Go(func() { queue.Resync(ctx, k.every, func(key string) { k.queue.Add(key) }) })
	<-ctx.Done()
	k.queue.ShutDown()
	group.Wait()
}

// work takes keys of the queue once every cache has been filled.
func (k *Keeper) work(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), k.below.HasSynced, k.Changes.HasSynced, k.Below.HasSynced, k.Upper.synced) {
		return
	}
	registration, err := k.Changes.AddEventHandler(tombstone.Handler(func(*corev1.Namespace) { k.lookAtAll() }))
	if err != nil {
		k.Log.Error("Upper namespaces cannot be watched, network policies are looked at once a minute", "err", err)
	} else {
		defer func() { _ = k.Changes.RemoveEventHandler(registration) }() // It fails where the informer has ended.
	}
	k.lookAtAll()
	k.queue.Work(ctx, k.reconcile)
}

// every is the keys of all policies that may concern the virtual node.
func (k *Keeper) every() []string {
	all := k.Upper.keys()
	for _, object := range k.below.GetStore().List() {
		all = append(all, pair.UpperKey(object.(*networkingv1.NetworkPolicy)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (k *Keeper) look(key string) {
	if k.Mode != None {
		k.queue.AddAfter(key, gather)
	}
}

// lookAtAll has the policies looked at of namespaces that have pods here: whom they speak of may be somebody else now.
func (k *Keeper) lookAtAll() {
	for _, key := range k.every() {
		k.look(key)
	}
}

// LookIn has the policies of an upper namespace looked at: it has its first pod here, or its last.
func (k *Keeper) LookIn(namespace string) {
	for _, policy := range k.Upper.in(namespace) {
		k.look(policy.Namespace + "/" + policy.Name)
	}
}

// Bring sees to it that the policies of an upper pod's namespace are below before the pod is. Its error says what failed, or is
// ErrNotTheSame where pods do not come without.
func (k *Keeper) Bring(ctx context.Context, upper *corev1.Pod) error {
	if k.Mode == None || k.Forbidden() != "" {
		return nil // A condition tells of it.
	}
	if !k.Upper.synced() || !k.below.HasSynced() {
		return errors.New("the network policies are not listed yet")
	}
	for _, policy := range k.Upper.in(upper.Namespace) {
		key := policy.Namespace + "/" + policy.Name
		if k.cached(key) == nil {
			if err := k.put(ctx, policy); err != nil {
				return err
			}
		}
		if why := k.leftOf(key); why != "" && k.Mode == Refuse && selects(policy, upper) {
			return fmt.Errorf("%w: %s: %s", ErrNotTheSame, policy.Name, why)
		}
	}
	return nil
}

func selects(policy *networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	return err != nil || selector.Matches(labels.Set(pod.Labels))
}

func (k *Keeper) leftOf(key string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.left[key]
}

// reconcile brings one policy in line.
func (k *Keeper) reconcile(ctx context.Context, key string) (again time.Duration, err error) {
	if k.Barred() || !k.Reachable() {
		return later, nil
	}
	upper := k.Upper.policy(key)
	if upper == nil && k.cached(key) != nil {
		if left := k.Upper.gone.Left(key, k.Absent); left > 0 {
			return left, nil
		}
	}
	if upper == nil || upper.DeletionTimestamp != nil || !k.Inhabited(upper.Namespace) {
		k.note(key, "")
		return 0, k.drop(ctx, key)
	}
	switch err := k.put(ctx, upper); {
	case errors.Is(err, pair.ErrForeign):
		k.tell(upper, reasonNameConflict, err.Error())
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return later, nil
	case errors.Is(err, namespaces.ErrForeign), pair.Lasting(err):
		k.tell(upper, reasonNotBrought, err.Error())
	case err != nil:
		return 0, err
	}
	return 0, nil
}

func (k *Keeper) tell(upper *networkingv1.NetworkPolicy, reason, text string) {
	k.Events.Event(upper, corev1.EventTypeWarning, reason, fmt.Sprintf("In cluster %s: %s", k.Name, text))
}

// note remembers what of a policy does not mean the same, and reports whether that is news.
func (k *Keeper) note(key, why string) (news bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	news = why != "" && k.left[key] != why
	if delete(k.left, key); why != "" {
		k.left[key] = why
	}
	return news
}
