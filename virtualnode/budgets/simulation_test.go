package budgets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// tick is the step of the simulation.
const tick = 100 * time.Millisecond

// world is an upper cluster with one budget, and the lower clusters of its virtual nodes. Time is counted in ticks.
type world struct {
	*testing.T
	rand     *rand.Rand
	demanded int
	pods     []*simPod
	nodes    []*simNode
	evicted  int
	ever     map[string]bool // virtual nodes that ever let a pod go
}

// simPod is a pod: bound to a virtual node, then ready, then gone (0: not yet).
type simPod struct {
	node               string
	bound, ready, gone int
}

// simNode is the keeper of one virtual node and its lower cluster.
type simNode struct {
	name          string
	skew          time.Duration // of its clock
	podLag        int           // how late it hears of upper pods
	statusLag     int           // how late it hears of the budget's status
	writeLag      int           // how long its writes take
	since         time.Time
	writes        []int // minAvailable by the tick at which it was decided
	leastInEffect int
}

func (p *simPod) readyAt(now int) bool { return now >= p.ready && (p.gone == 0 || now < p.gone) }

func (w *world) healthyAt(now int) (n int) {
	for _, p := range w.pods {
		if p.readyAt(now) {
			n++
		}
	}
	return n
}

// decide is what the keeper of a virtual node does at a tick, with old news.
func (w *world) decide(n *simNode, now int) {
	var seen []*corev1.Pod
	var pods count
	for i, p := range w.pods {
		then := now - n.podLag
		if p.bound > then || (p.gone != 0 && p.gone <= then) {
			continue
		}
		pod := upperPod(fmt.Sprint(i), p.node)
		if !p.readyAt(then) {
			pod.Status.Conditions = nil
		}
		seen = append(seen, pod)
	}
	healthy := w.healthyAt(now - n.statusLag)
	status := policyv1.PodDisruptionBudgetStatus{
		DesiredHealthy: int32(w.demanded), DisruptionsAllowed: int32(max(0, healthy-w.demanded)),
	}
	pods, on := survey(seen, status, n.name)
	pods.below = w.readyBelow(n, now)
	clock := time.Unix(1e9, 0).Add(time.Duration(now)*tick + n.skew)
	if !slices.Contains(on, n.name) {
		n.since = time.Time{}
	} else if n.since.IsZero() {
		n.since = clock
	}
	mine, _ := turn("budget", on, n.name, n.since, clock)
	n.writes = append(n.writes, minAvailable(status, pods, mine))
	n.leastInEffect = n.writes[max(0, len(n.writes)-1-n.writeLag)]
}

func (w *world) readyBelow(n *simNode, now int) (ready int) {
	for _, p := range w.pods {
		if p.node == n.name && p.readyAt(now) {
			ready++
		}
	}
	return ready
}

// drain tries now and then to evict one pod of a virtual node, as the lower API server would let it.
func (w *world) drain(n *simNode, now int) {
	if w.rand.IntN(10) > 0 || w.readyBelow(n, now) <= n.leastInEffect {
		return
	}
	at := slices.IndexFunc(w.pods, func(p *simPod) bool { return p.node == n.name && p.readyAt(now) })
	w.pods[at].gone = now
	w.evicted++
	w.ever[n.name] = true
	if healthy := w.healthyAt(now); healthy < w.demanded {
		w.Fatalf("at %s %s lets a pod go, and %d are left of %d demanded", time.Duration(now)*tick, n.name, healthy, w.demanded)
	}
	bound := now + w.rand.IntN(10)
	// A pod takes longer to become ready than the news takes that there is one.
	w.pods = append(w.pods, &simPod{node: w.nodes[w.rand.IntN(len(w.nodes))].name, bound: bound, ready: bound + 20 + w.rand.IntN(30)})
}

// All virtual nodes are drained at the same time, over and over, with news that comes late and clocks that differ. The
// budget holds at every moment, and everybody gets a turn.
func TestBudgetHoldsEverywhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			w := &world{T: t, rand: r, ever: map[string]bool{}}
			for i := range 2 + r.IntN(3) {
				w.nodes = append(w.nodes, &simNode{
					name: fmt.Sprint("lower-", i), skew: time.Duration(r.IntN(3000)-1500) * time.Millisecond,
					podLag: r.IntN(10), statusLag: r.IntN(15), writeLag: r.IntN(10),
				})
			}
			for i := range 4 + r.IntN(5) {
				w.pods = append(w.pods, &simPod{node: w.nodes[i%len(w.nodes)].name})
			}
			w.demanded = len(w.pods) - 1 - r.IntN(2)
			for now := 20; now < 6000; now++ { // ten minutes
				for _, n := range w.nodes {
					w.decide(n, now)
				}
				for _, at := range r.Perm(len(w.nodes)) {
					w.drain(w.nodes[at], now)
				}
				w.pods = slices.DeleteFunc(w.pods, func(p *simPod) bool { return p.gone != 0 && p.gone < now-50 })
			}
			t.Logf("%d virtual nodes, %d evictions", len(w.nodes), w.evicted)
			if len(w.ever) < len(w.nodes) || w.evicted < 20 {
				t.Errorf("%d evictions, by %v of %d virtual nodes", w.evicted, w.ever, len(w.nodes))
			}
		})
	}
}
