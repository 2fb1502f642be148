package pods

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
	"github.com/tessera-k8s/tessera/virtualnode/queue"
	"github.com/tessera-k8s/tessera/virtualnode/refusals"
)

// Times of the reconciler.
const (
	firstRetry   = 100 * time.Millisecond
	slowestRetry = 30 * time.Second
	recheck      = time.Second // when a cache is behind, or an older pod of the same name is on its way out
)

// Reconciler brings the pods of one virtual node in line, above and below.
//
// Its queue holds keys of upper pods. One worker at a time has a key, looks at both caches and takes one step; what
// fails is tried again for ever, with growing pauses. So no event can be lost for good, and none needs an answer.
type Reconciler struct {
	Setup
	queue *queue.Queue

	changed   atomic.Bool // something happened since the orphans were last counted
	storms    storms
	comebacks comebacks
	absences  absences

	mu     sync.Mutex
	memory map[string]*memory
	last   map[string]*corev1.Pod // lower pods that went, where their status says why
}

// Setup is what a reconciler works between and with.
type Setup struct {
	// Name is that of the virtual node.
	Name string
	// Target is the virtual node as it is labelled now.
	Target func() translate.Target
	// ShowAddresses reports the addresses of lower pods as those of the upper ones.
	ShowAddresses bool
	// Namespace sees to it that the lower namespace of an upper one is there for pods, see namespaces.Keeper.Use.
	Namespace func(ctx context.Context, upper string) (namespaces.Used, error)
	// Known reports whether the lower API server is no newer than this program.
	Known func() bool
	// Objects sees to it that the ConfigMaps and Secrets which an upper pod names are there, see objects.Keeper.Bring.
	Objects func(ctx context.Context, upper *corev1.Pod) (left []error, err error)
	// OwnerInOpenNamespaces has pods in namespaces that are not ours belong to these, too.
	OwnerInOpenNamespaces bool
	// Barred reports whether nothing may be done in the lower cluster, nor be concluded from what is to be seen there.
	Barred func() bool
	// Reachable reports whether the lower cluster answers, so that what its cache says is news.
	Reachable func() bool
	// OnLost says what becomes of pods whose cluster is out of reach. DefaultToleration is the time that the upper API server
	// has pods tolerate that if they say nothing.
	OnLost            up.OnLost
	DefaultToleration time.Duration
	// Endured is how fast pods are given the tolerations of virtual nodes that had been bound before this process started.
	Endured *rate.Limiter
	// NodeReady reports whether a lower node works, as far as is known from memory.
	NodeReady func(name string) bool
	// NodeUsable reports whether a lower node is there, works and is not cordoned, as far as is known from memory.
	NodeUsable func(name string) bool
	// Namespaces are those of the upper cluster, by whose labels pods are opted in.
	Namespaces corelisters.NamespaceLister
	// Choice says which of them take part.
	Choice namespaces.Choice
	// AcceptUnasked creates pods below that did not come through admission. Their namespace has to be opted in all the same.
	AcceptUnasked bool
	// Upper and Lower are clients of the two clusters.
	Upper, Lower corev1client.CoreV1Interface
	// Above are the upper pods bound to the virtual node, Below the lower pods that came through it.
	Above cache.Store
	Below Below
	// Orphans is the book of lower pods whose upper pod is not there; it is told of every deletion that is seen above.
	Orphans *orphans.Ledger
	// Hints may be nil: nobody is asked then.
	Hints *hints.Hints
	// Refusals is what is learnt of pods that the lower cluster refuses.
	Refusals *refusals.Ledger
	Events   record.EventRecorder
	Metrics  *Metrics
	Log      *slog.Logger
}

// Below is a cache of lower pods with the index pair.ByUpper. What it returns is shared.
type Below interface {
	List() []any
	ByIndex(index, value string) ([]any, error)
	ListIndexFuncValues(index string) []string
}

// New returns a reconciler that does nothing before Run.
func New(setup Setup) *Reconciler {
	return &Reconciler{
		Setup: setup, queue: queue.New("pod", setup.Log, firstRetry, slowestRetry), storms: newStorms(),
		absences:  newAbsences(),
		comebacks: comebacks{known: map[types.UID]comeback{}},
		memory:    map[string]*memory{}, last: map[string]*corev1.Pod{},
	}
}

// memory is what is known of a pod beyond the two caches. Losing it does no harm: it saves calls and tells a cache
// that lags from a pod that has gone. Only the worker that has the pod's key touches it.
type memory struct {
	uid   types.UID // of the upper pod; "" where there is none
	since time.Time // first look at the pod
	// wasBelow: the lower pod has been created or seen; createdAt is when, if it was created.
	wasBelow  bool
	createdAt time.Time
	// endures is when it is this pod's turn to be given the tolerations of virtual nodes.
	endures time.Time
	// ungated is the lower pod whose gate has been taken off, for as long as the cache still shows it.
	ungated types.UID
	// written is the upper pod as it was after our last write, older the resource versions that our writes replaced.
	written *corev1.Pod
	older   map[string]bool
	// failed is what became of the attempts to create the lower pod, attempts when they were.
	failed   failure
	attempts attempts
	// What the rooms remember.
	asking hints.Asking
	up     up.Memory
	down   down.Memory
}

// Run works until ctx ends. Both caches are in sync when it is called.
func (r *Reconciler) Run(ctx context.Context, workers int) {
	r.changed.Store(true)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() { r.queue.Work(ctx, r.reconcile) })
	}
	group.Go(func() { queue.Resync(ctx, r.keys, func(key string) { r.queue.Add(key) }) })
	group.Go(func() { r.countOrphans(ctx) })
	group.Go(func() { r.tryRefusals(ctx) })
	<-ctx.Done()
	r.queue.ShutDown()
	group.Wait()
}

// Look has the pod of a key, the namespace/name of its upper object, looked at.
func (r *Reconciler) Look(key string) {
	r.changed.Store(true)
	r.queue.Add(key)
}

// keys are those of all pods, above and below.
func (r *Reconciler) keys() []string {
	r.storms.sweep() // Once a minute, as the keys are asked for.
	r.comebacks.sweep(time.Now())
	r.absences.sweep(time.Now())
	r.changed.Store(true)
	return append(r.Above.ListKeys(), r.Below.ListIndexFuncValues(pair.ByUpper)...)
}

// WakeAll looks at every pod now, also at those that wait for their next attempt.
func (r *Reconciler) WakeAll() {
	for _, key := range r.keys() {
		r.queue.Forget(key)
		r.queue.Add(key)
	}
}

// reconcile takes the next step for one pod. again > 0 asks for another look after that time although nothing failed.
func (r *Reconciler) reconcile(ctx context.Context, key string) (again time.Duration, err error) {
	upper := r.podAbove(key)
	lower := r.podBelow(key, upper)
	memory := r.remember(key, upper)
	upper = memory.newest(upper)
	if upper != nil {
		defer func() { // Whatever becomes of the step: this process may be away in the next moment.
			later, failed := r.endure(ctx, memory.latest(upper), memory)
			again, err = sooner(again, later), errors.Join(err, failed)
		}()
	}
	if r.Barred() {
		return 0, nil // WakeAll brings us back.
	}
	if memory.ungated != "" && lower != nil && !pair.Gated(lower) {
		memory.ungated = "" // The cache has caught up.
	}
	return r.take(ctx, key, decide(upper, lower, r.known(upper, lower, memory)), upper, lower, memory)
}

// take takes a step.
func (r *Reconciler) take(
	ctx context.Context, key string, next step, upper, lower *corev1.Pod, memory *memory,
) (again time.Duration, err error) {
	switch next {
	case create:
		return r.create(ctx, upper, memory)
	case refuse:
		return r.failUnwelcome(ctx, upper)
	case replace:
		return r.replace(ctx, upper, memory)
	case collect, orphan:
		return r.alone(ctx, next, upper, lower)
	case wait:
		return 0, nil // The event of its deletion brings us back.
	case end:
		return 0, r.end(ctx, upper, lower)
	case remove:
		return 0, r.remove(ctx, upper)
	case tend:
		return r.tend(ctx, upper, lower, memory)
	case abandon:
		return r.abandon(ctx, upper, lower)
	case stop:
		return r.stop(ctx, upper)
	case release:
		return r.release(ctx, upper)
	default:
		if upper == nil {
			r.forget(key)
		}
		return 0, nil
	}
}

func (r *Reconciler) known(upper, lower *corev1.Pod, memory *memory) known {
	return known{
		wasBelow: memory.wasBelow, welcome: upper != nil && r.Welcome(upper), lost: r.onLostNode(lower), sawDeleted: r.sawDeleted(lower),
	}
}

// tend looks after a pod that is on both sides.
func (r *Reconciler) tend(ctx context.Context, upper, lower *corev1.Pod, memory *memory) (again time.Duration, err error) {
	memory.wasBelow = true
	r.absences.back(upper.UID) // It may have been missing before.
	if pair.Gated(lower) && memory.ungated != lower.UID {
		// This process or the one before it was interrupted on the way.
		node, again := r.hints().Ask(ctx, upper, &memory.asking)
		if again > 0 {
			return again, nil
		}
		return 0, r.giveHint(ctx, upper, lower, node, false, memory)
	}
	// A change that is refused below must not keep the status from being reported.
	before, _ := memory.down.RefusedSize()
	again, err = r.report(ctx, upper, lower, memory)
	changes := r.changes()
	err = errors.Join(err, changes.BringDown(ctx, upper, lower, &memory.down), changes.BringGates(ctx, upper, lower, &memory.down))
	if now, _ := memory.down.RefusedSize(); now != before {
		_, reported := r.report(ctx, memory.newest(upper), lower, memory)
		err = errors.Join(err, reported)
	}
	return sooner(cmp.Or(again, lookAgain(lower)), r.untilUnplaced(upper, lower)), err
}

// untilUnplaced is when a lower pod without a node has to be looked at, though nothing happens to it; 0 for never.
func (r *Reconciler) untilUnplaced(upper, lower *corev1.Pod) time.Duration {
	_, later := unplaced(upper, lower, failure{}, time.Now())
	return later
}

// endure has an upper pod outlast a virtualnode that is away, and its cluster's silence as it is configured. Pods that were there
// before are patched a few at a time; those that are made now are as many as the scheduler binds.
func (r *Reconciler) endure(ctx context.Context, upper *corev1.Pod, memory *memory) (again time.Duration, err error) {
	if upper.DeletionTimestamp != nil || snapshot.Finished(upper) {
		return 0, nil
	}
	enduring := r.reports().Enduring(upper)
	if enduring == nil {
		return 0, nil
	}
	if now := time.Now(); memory.createdAt.IsZero() {
		if memory.endures.IsZero() {
			memory.endures = now.Add(r.Endured.Reserve().Delay())
		}
		if left := memory.endures.Sub(now); left > 0 {
			return left, nil
		}
	}
	return 0, r.reports().Endure(ctx, upper, enduring)
}

// sooner is the earlier of two times to look again at, 0 being never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (r *Reconciler) podAbove(key string) *corev1.Pod {
	object, ok, _ := r.Above.GetByKey(key)
	if !ok {
		return nil
	}
	return object.(*corev1.Pod)
}

// podBelow returns the lower pod of a key: the one of the upper pod where there are several.
func (r *Reconciler) podBelow(key string, upper *corev1.Pod) *corev1.Pod {
	objects, _ := r.Below.ByIndex(pair.ByUpper, key) // The index exists.
	var found *corev1.Pod
	for _, object := range objects {
		pod := object.(*corev1.Pod)
		if found == nil || (upper != nil && pair.UpperUID(pod) == upper.UID) {
			found = pod
		}
	}
	return found
}

func (r *Reconciler) remember(key string, upper *corev1.Pod) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory[key]
	if m == nil || (upper != nil && m.uid != upper.UID) {
		if m != nil {
			r.absences.done(m.uid)
		}
		m = &memory{since: time.Now(), down: down.NewMemory()}
		if upper != nil {
			m.uid = upper.UID
		}
		r.memory[key] = m
	}
	return m
}

func (r *Reconciler) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memory[key]; m != nil {
		r.absences.done(m.uid)
	}
	delete(r.memory, key)
	delete(r.last, key)
}

// newest returns the upper pod as we last wrote it, for as long as the cache shows what was before: the same is not
// written twice.
func (m *memory) newest(cached *corev1.Pod) *corev1.Pod {
	if m.written == nil || cached == nil || !m.older[cached.ResourceVersion] {
		m.written, m.older = nil, nil
		return cached
	}
	return m.written
}

// latest is the upper pod as our last write left it, if that was after this one.
func (m *memory) latest(pod *corev1.Pod) *corev1.Pod {
	if m.written != nil && m.older[pod.ResourceVersion] {
		return m.written
	}
	return pod
}

// wrote notes what a write to the upper pod made of it.
func (r *Reconciler) wrote(before, after *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memory[pair.KeyOf(before)]
	if m == nil || m.uid != before.UID || before.ResourceVersion == after.ResourceVersion {
		return
	}
	after.ManagedFields = nil
	if m.older == nil {
		m.older = map[string]bool{}
	}
	m.older[before.ResourceVersion] = true
	m.written = after
}
