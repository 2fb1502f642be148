package snapshot

import "maps"

// origin is where pods come from that admission below treats alike.
type origin struct {
	cluster string
	owner   Owner
}

// mostLearnt bounds what is remembered; past it everything is learnt anew.
const mostLearnt = 10_000

// Larger returns the pod as admission in the cluster is likely to make it: sidecars and defaults that it added to the pods
// of that owner before are charged to the next one, too.
func (p *Pool) Larger(cluster string, owner Owner, pod *Pod) *Pod {
	if pod == nil {
		return nil
	}
	extra, known := p.learnt[origin{cluster, owner}]
	if !known {
		return pod
	}
	return pod.with(extra)
}

// learn compares a pod that was sent with what is stored of it.
func (p *Pool) learn(cluster string, owner Owner, sent *Pod, stored *LowerPod) {
	if sent == nil || stored.Finished || owner.Kind == "Pod" {
		return // A pod of its own has no next one.
	}
	at := origin{cluster, owner}
	extra := stored.Requests.Minus(sent.sent()).Positive()
	if c := p.cells[cluster]; c != nil && p.learnt[at].Minus(extra).some() { // The next pod of that owner asks for less than was thought.
		c.shaken++
	}
	if !extra.some() {
		delete(p.learnt, at)
		return
	}
	if len(p.learnt) >= mostLearnt {
		clear(p.learnt)
		for _, c := range p.cells {
			c.shaken++
		}
	}
	p.learnt[at] = extra
}

func (p *Pool) unlearn(cluster string) {
	maps.DeleteFunc(p.learnt, func(at origin, _ Resources) bool { return at.cluster == cluster })
}
