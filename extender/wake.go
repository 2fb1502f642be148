package extender

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// waiter is a pod that no virtual node took when it was last asked about.
type waiter struct {
	pod     *corev1.Pod
	targets []target // what it was asked about
	woken   time.Time
	vain    int  // how often it was woken since the scheduler last asked
	hopeful bool // it fitted when it was last looked at
}

// target is a name that a pod was asked about, and the pod as it will be below for labels and rules like these.
type target struct {
	name    string
	cluster string
	labels  map[string]string
	rules   string
	entries uint64        // and for what its namespace asked of pods then
	pod     *snapshot.Pod // as it comes through this or another virtual node
	// restless: the reason of the last refusal may end without a change in the cluster that could be seen, or was none.
	restless bool
}

// Times of waking. A pod that was woken is left alone for a while, as the scheduler needs time to come to it, and for
// longer each time that it does not come: its own filters may refuse the pod, and then it does not ask.
const (
	wakeEvery   = 100 * time.Millisecond
	wakeAgain   = 2 * time.Second
	wakeSlowest = 5                     // doublings of wakeAgain
	wakeVain    = 3                     // wakes in vain after which room is not kept for a pod any more while others are looked at
	wakeBudget  = time.Millisecond      // of one part of a look, in which the scheduler has to wait
	wakeAtOnce  = 16                    // waiting pods that a part looks at in any case
	wakeWithin  = 50 * time.Millisecond // after which those that were found to fit so far are woken
	mostPlaced  = 64                    // of those who were found to fit last, the next ones find what is left
	wakeTimeout = 2 * time.Second
	wakeWorkers = 8
)

// wait notes a refused pod. Of pods that are not Tessera's the end would never be seen. The caller holds e.mu.
func (e *Extender) wait(pod *corev1.Pod, verdicts []verdict, unknown map[string]keys.Reason, entries map[string]uint64) {
	if !translate.Marked(pod) || len(verdicts)+len(unknown) == 0 {
		return
	}
	w := &waiter{pod: pod}
	if before := e.waiting[pod.UID]; before != nil {
		w.woken = before.woken
	}
	for _, v := range verdicts {
		w.targets = append(w.targets, target{
			name: v.node.Name, cluster: v.Cluster, labels: v.node.Labels, rules: rulesOf(v.node), entries: entries[v.Cluster],
			pod: v.pod.Base(), restless: e.restless(&v),
		})
		e.lookLater(&v)
	}
	for name := range unknown {
		w.targets = append(w.targets, target{name: name})
		e.touchSoon()
	}
	e.waiting[pod.UID] = w
}

// restless reports whether a refusal may end without a change of rows: by the clock, a probe, a name, quota or claim below; or there was
// no time to ask. The caller holds e.mu.
func (e *Extender) restless(v *verdict) bool {
	switch v.Reason {
	case keys.InsufficientCPU, keys.InsufficientMemory, keys.InsufficientEphemeralStorage, keys.InsufficientPods,
		keys.InsufficientExtendedResource, keys.Fragmented, keys.Held,
		keys.Taint, keys.NodeAffinity, keys.PodAffinity, keys.Spread, keys.HostPort:
		return v.unasked || v.pod != nil && e.pool.Undecided(v.Cluster, v.pod)
	default:
		return true
	}
}

// lookLater asks for another look where a reason ends by the clock or by a probe, not by a change below.
func (e *Extender) lookLater(v *verdict) {
	switch v.Reason {
	case keys.Stale, keys.Avoided, keys.NotSynced, keys.OtherCluster:
		e.touchSoon()
	default:
		if v.unasked {
			e.touchSoon()
		}
	}
}

// wake makes the scheduler try waiting pods again when room for them has appeared: by a change of an annotation
// of exactly those pods, because a change of a node would wake every refused pod of the cluster.
func (e *Extender) wake(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		}
		var group errgroup.Group
		group.SetLimit(wakeWorkers)
		for _, pod := range e.fitNow(ctx, time.Now()) {
			group.Go(func() error { e.annotate(ctx, pod); return nil })
		}
		_ = group.Wait() // annotate reports by itself.
		if !sleep(ctx, wakeEvery) {
			return nil
		}
	}
}

// look is one look at all waiting pods: what has changed since the last one, and who fits.
type look struct {
	stirs   map[string]*snapshot.Stir // by cluster
	nodes   map[string]bool           // virtual nodes of which something has changed
	moved   bool                      // any of them has, or is there no more
	left    []*waiter                 // who has not been looked at
	fitting []*corev1.Pod
	placed  []placed // who was found to fit last
}

type placed struct {
	pod  *corev1.Pod
	best verdict
}

// seenNode is a virtual node as a look saw it, and what its cluster made of pods then.
type seenNode struct {
	node    *corev1.Node
	entries uint64
}

// fitNow returns the waiting pods that fit now, all of them together: by priority, then age. Only what has changed since the last
// look is asked about, and the scheduler waits for a part of it at the most. After a while it returns whom it has found, and goes on
// from there the next time.
func (e *Extender) fitNow(ctx context.Context, now time.Time) []*corev1.Pod {
	if e.look == nil {
		e.look = e.beginLook()
	}
	l, started := e.look, time.Now()
	l.fitting = nil
	for e.lookOn(l, now.Add(time.Since(started))) {
		if time.Since(started) > wakeWithin || !sleep(ctx, wakeBudget) {
			e.touch()
			return l.fitting
		}
	}
	e.look = nil
	return l.fitting
}

func (e *Extender) beginLook() *look {
	l := &look{stirs: map[string]*snapshot.Stir{}, nodes: map[string]bool{}}
	seen := map[string]seenNode{}
	for _, node := range e.upper.virtualNodes() {
		now := seenNode{node, e.entriesOf(node.Labels[keys.Cluster])}
		seen[node.Name], l.nodes[node.Name] = now, e.seen[node.Name] != now
		l.moved = l.moved || l.nodes[node.Name]
	}
	l.moved = l.moved || len(seen) != len(e.seen)
	e.seen = seen
	e.mu.Lock()
	defer e.mu.Unlock()
	l.left = slices.SortedFunc(maps.Values(e.waiting), sooner)
	stirs := e.pool.Stirs(e.looked)
	for i := range stirs {
		l.stirs[stirs[i].Cluster] = &stirs[i]
	}
	return l
}

// lookOn looks at some of those who are left, and reports whether there are more.
func (e *Extender) lookOn(l *look, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	started := time.Now()
	var trial []types.UID // Holds of this question alone, given back at its end.
	for _, p := range l.placed {
		if e.waiting[p.pod.UID] != nil && e.pool.Hold(p.pod.UID) == nil {
			e.pool.Offer(now, p.pod.UID, infoOf(p.pod), p.best.pod, p.best.Verdict)
			trial = append(trial, p.pod.UID)
		}
	}
	for looked := 0; len(l.left) > 0 && (looked < wakeAtOnce || time.Since(started) < wakeBudget); looked++ {
		w := l.left[0]
		l.left = l.left[1:]
		if e.waiting[w.pod.UID] != w {
			continue // The scheduler has asked meanwhile, or the pod has gone.
		}
		best := e.best(now.Add(time.Since(started)), w, l)
		if w.hopeful = best.Fits; !best.Fits || e.pool.Hold(w.pod.UID) != nil {
			continue
		}
		if w.vain < wakeVain {
			e.pool.Offer(now, w.pod.UID, infoOf(w.pod), best.pod, best.Verdict)
			trial = append(trial, w.pod.UID)
			l.placed = append(l.placed, placed{pod: w.pod, best: best})
		}
		if w.due(now) {
			l.fitting = append(l.fitting, w.pod)
		}
		e.touchSoon() // Until the scheduler has come to it.
	}
	l.placed = l.placed[max(0, len(l.placed)-mostPlaced):]
	for _, uid := range trial {
		e.pool.Release(uid)
	}
	return len(l.left) > 0
}

// best returns the best verdict on a waiting pod, of those that can be another than when it was last asked; the zero verdict where
// there is none. The caller holds e.mu.
func (e *Extender) best(now time.Time, w *waiter, l *look) verdict {
	var nodes []*corev1.Node
	var pods []*snapshot.Pod
	var asked []*target
	for i := range w.targets {
		t := &w.targets[i]
		changed := t.pod == nil || l.nodes[t.name]
		if !changed && !w.hopeful && !t.restless && !l.mayTake(t) {
			continue
		}
		node := e.upper.virtualNode(t.name)
		if node == nil {
			continue
		}
		if other := e.compileAnew(t, w.pod, node); !other && changed && !w.hopeful && !t.restless && !l.mayTake(t) {
			continue
		}
		nodes, pods, asked = append(nodes, node), append(pods, t.pod.Via(node.Name)), append(asked, t)
	}
	if len(nodes) == 0 {
		return verdict{}
	}
	verdicts := e.judge(now, w.pod, nodes, pods)
	for i := range verdicts {
		v := &verdicts[i]
		e.lookLater(v)
		asked[slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n == v.node })].restless = e.restless(v)
	}
	return verdicts[0]
}

// compileAnew reduces the pod again where the virtual node, or what its cluster makes of pods, is another than it was, and reports
// whether it did.
func (e *Extender) compileAnew(t *target, pod *corev1.Pod, node *corev1.Node) bool {
	entries := e.entriesOf(node.Labels[keys.Cluster])
	if t.pod != nil && t.entries == entries && maps.Equal(t.labels, node.Labels) && t.rules == rulesOf(node) {
		return false
	}
	t.cluster, t.labels, t.rules, t.entries = node.Labels[keys.Cluster], node.Labels, rulesOf(node), entries
	t.pod = e.compileAll(pod, []*corev1.Node{node})[0]
	return true
}

// mayTake reports whether something has changed that may let the pod into a cluster.
func (l *look) mayTake(t *target) bool {
	switch {
	case t.pod == nil || len(l.stirs) == 0 && !l.moved:
		return false
	case t.pod.Sociable():
		return true
	}
	stir := l.stirs[t.cluster]
	return stir != nil && stir.MayTake(t.pod.Via(t.name))
}

// due reports whether it is time to wake the pod, and notes that it was.
func (w *waiter) due(now time.Time) bool {
	if !w.woken.IsZero() && now.Sub(w.woken) < wakeAgain<<min(w.vain, wakeSlowest) {
		return false
	}
	if !w.woken.IsZero() {
		w.vain++
	}
	w.woken = now
	return true
}

// sooner orders waiting pods: the higher priority first, then the older.
func sooner(a, b *waiter) int {
	return cmp.Or(
		cmp.Compare(corev1helpers.PodPriority(b.pod), corev1helpers.PodPriority(a.pod)),
		a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

func (e *Extender) annotate(ctx context.Context, pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         pod.UID,
		"annotations": map[string]string{keys.Wake: time.Now().UTC().Format(time.RFC3339Nano)},
	}})
	if err == nil {
		_, err = e.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	switch {
	case err == nil:
		e.metrics.wakes.Inc()
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		e.mu.Lock()
		delete(e.waiting, pod.UID)
		e.mu.Unlock()
	default:
		e.log.Error("Waking a pod failed, trying again", "namespace", pod.Namespace, "name", pod.Name, "err", err)
	}
}
