package frag

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The policies, in the order of the table.
const (
	Aggregate     = "aggregate"
	EveryNode     = "every-node"
	TesseraNoHint = "tessera-no-hint"
	Tessera       = "tessera"
	Oracle        = "oracle"
)

// Policies is every policy.
var Policies = []string{Aggregate, EveryNode, TesseraNoHint, Tessera, Oracle}

// policy chooses the lower cluster of a pod, from what it has been told.
type policy interface {
	// decide names the cluster for the pod; ok is false if it is refused for now.
	decide(now time.Time, p *pod) (cluster string, ok bool)
	// observe tells of a pod above: bound, finished, gone. It arrives a watch's lag after the fact.
	observe(now time.Time, u snapshot.UpperPod)
	// publish tells of a cluster below.
	publish(s *snapshot.Snapshot)
	// hint names the lower node that the lower scheduler should try first, "" for none.
	hint(uid types.UID) string
}

var (
	_ policy = (*aggregate)(nil)
	_ policy = (*everyNode)(nil)
	_ policy = (*tessera)(nil)
)

func newPolicy(name string) policy {
	switch name {
	case Aggregate:
		return &aggregate{charged: map[types.UID]charge{}, used: map[string]snapshot.Resources{}}
	case EveryNode:
		return &everyNode{pool: snapshot.NewPool()}
	case TesseraNoHint:
		return &tessera{everyNode: everyNode{pool: snapshot.NewPool()}}
	}
	return &tessera{everyNode: everyNode{pool: snapshot.NewPool()}, hints: true}
}

// aggregate is a virtual node with the sum of its nodes, and the stock scheduler above: the pod goes where the total
// suffices and the largest share stays free.
type aggregate struct {
	totals  []*snapshot.Snapshot // the first snapshot of each cluster: capacity does not change
	charged map[types.UID]charge
	used    map[string]snapshot.Resources
}

type charge struct {
	cluster  string
	requests snapshot.Resources
}

func (a *aggregate) decide(_ time.Time, p *pod) (string, bool) {
	best, score := "", 0.0
	request := p.asked.Requests
	for _, cluster := range a.totals {
		all := cluster.Capacity()
		free := all.Minus(a.used[cluster.Cluster])
		if !free.Fits(request) {
			continue
		}
		if s := share(free.MilliCPU-request.MilliCPU, all.MilliCPU) + share(free.Memory-request.Memory, all.Memory); best == "" || s > score {
			best, score = cluster.Cluster, s
		}
	}
	if best == "" {
		return "", false
	}
	a.charged[p.pod.UID] = charge{best, request} // kube-scheduler assumes the pod at once.
	a.used[best] = a.used[best].Plus(request)
	return best, true
}

func (a *aggregate) observe(_ time.Time, u snapshot.UpperPod) {
	if c, ok := a.charged[u.UID]; ok && u.Gone {
		a.used[c.cluster] = a.used[c.cluster].Minus(c.requests)
		delete(a.charged, u.UID)
	}
}

func (a *aggregate) publish(s *snapshot.Snapshot) {
	for _, known := range a.totals {
		if known.Cluster == s.Cluster {
			return
		}
	}
	a.totals = append(a.totals, s)
}

func (a *aggregate) hint(types.UID) string { return "" }

// everyNode looks at every node with the production fit and score, and remembers nothing of its own answers.
type everyNode struct{ pool *snapshot.Pool }

func (e *everyNode) decide(_ time.Time, p *pod) (string, bool) {
	best := e.judge(p)
	return best.Cluster, best.Fits
}

// judge returns the tightest verdict, as the extender's filter and prioritize do together.
func (e *everyNode) judge(p *pod) snapshot.Verdict {
	var best snapshot.Verdict
	for i, cluster := range e.pool.Clusters() {
		if v := e.pool.Judge(cluster, p.asked, p.pod.UID); i == 0 || snapshot.Tighter(v, best) < 0 {
			best = v
		}
	}
	return best
}

func (e *everyNode) observe(time.Time, snapshot.UpperPod) {}

func (e *everyNode) publish(s *snapshot.Snapshot) { e.pool.Publish(time.Time{}, s) }

func (e *everyNode) hint(types.UID) string { return "" }

// tessera is everyNode with the production holds and, if hints is set, the hint.
type tessera struct {
	everyNode
	hints bool
}

func (t *tessera) decide(now time.Time, p *pod) (string, bool) {
	best := t.judge(p)
	if best.Fits {
		t.pool.Offer(now, p.pod.UID, snapshot.Info{Namespace: p.pod.Namespace, Name: p.pod.Name}, p.asked, best)
	}
	return best.Cluster, best.Fits
}

func (t *tessera) observe(now time.Time, u snapshot.UpperPod) { t.pool.Observe(now, u) }

func (t *tessera) hint(uid types.UID) string {
	if hold := t.pool.Hold(uid); hold != nil && t.hints {
		return hold.Node
	}
	return ""
}
