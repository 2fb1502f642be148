package snapshot

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// State is where a pod with a hold is on its way.
//
//	offered ──> chosen ──> bound ──> mirrored ──> (usage of the lower node)
//
// offered: Filter said yes. chosen: the upper scheduler has nominated the virtual node and is preparing volumes.
// bound: the upper pod names the virtual node. mirrored: the lower pod exists and has no node yet.
// reserved: room kept for a pod that does not exist yet.
type State string

// The states of the contract.
const (
	Offered  State = "offered"
	Chosen   State = "chosen"
	Bound    State = "bound"
	Mirrored State = "mirrored"
	Reserved State = "reserved"
)

// OfferedLimit is the last resort that ends an offer which no evidence has ended: long, because an offer that
// ends too early promises the same room twice.
const OfferedLimit = 60 * time.Second

// Info names a pod for people.
type Info struct {
	Namespace, Name string
	Owner           Owner
}

// Hold is room kept on a lower node for a pod that is on its way.
type Hold struct {
	UID types.UID
	Info
	Cluster string
	// Node is empty when the node has gone and no other node of the cluster takes the pod.
	Node     string
	State    State
	Requests Resources
	Since    time.Time

	pod *Pod
}

// UpperPod is what the upper cluster says of one of Tessera's pods.
type UpperPod struct {
	UID types.UID
	Info
	// Cluster is that of the virtual node the pod is bound to, Chosen that of the one it is nominated for.
	Cluster, Chosen string
	// Refused is when its condition PodScheduled last became False.
	Refused time.Time
	// Finished: the pod will not run any more. Gone: the object has been removed.
	Finished, Gone bool
	// Pod is the pod as it is below; needed while Cluster or Chosen is set.
	Pod *Pod
}

// Observe tells the pool of an upper pod. Telling it the same twice changes nothing. It reports whether the pod
// went to another cluster than the one that its room was held in.
func (p *Pool) Observe(now time.Time, u UpperPod) (elsewhere bool) {
	switch {
	case u.Gone:
		delete(p.bound, u.UID)
		p.Release(u.UID)
	case u.Finished:
		p.Release(u.UID)
	case u.Cluster != "":
		return p.observeBound(now, u)
	case u.Chosen != "":
		p.observeChosen(now, u)
	default:
		p.observeWaiting(now, u)
	}
	return false
}

// observeChosen takes the time limit off an offer. Only a pod that has no hold at all, as after a start, gets one: a
// nomination may be older than the last answer, which then stands.
func (p *Pool) observeChosen(now time.Time, u UpperPod) {
	if p.holds[u.UID] == nil {
		p.move(now, u, u.Chosen)
	}
	if hold := p.holds[u.UID]; hold.Cluster == u.Chosen && hold.State == Offered {
		hold.State = Chosen
	}
}

// observeWaiting looks at a pod that is neither bound nor nominated.
func (p *Pool) observeWaiting(now time.Time, u UpperPod) {
	hold := p.holds[u.UID]
	switch {
	case hold == nil:
	case hold.State == Chosen: // The nomination was taken back: an offer again, with its limit.
		hold.State, hold.Since = Offered, now
	case hold.State == Offered && u.Refused.After(hold.Since):
		// A condition has whole seconds: only one of a later second is surely newer than the offer.
		p.Release(u.UID)
	}
}

// observeBound turns the hold of a bound pod firm, unless its lower pod already counts as usage.
func (p *Pool) observeBound(now time.Time, u UpperPod) (elsewhere bool) {
	own := p.own(u.Cluster, u.UID)
	known := p.bound[u.UID]
	counted := known.cluster == u.Cluster && known.counted || own.placed()
	p.bound[u.UID] = binding{cluster: u.Cluster, counted: counted}
	if counted {
		p.Release(u.UID)
		return false
	}
	elsewhere = p.move(now, u, u.Cluster)
	hold := p.holds[u.UID]
	hold.State = Bound
	if own != nil {
		p.mirror(hold, own)
	}
	return elsewhere
}

// move makes sure that the pod has a hold in the cluster, and reports whether it had one elsewhere.
func (p *Pool) move(now time.Time, u UpperPod, cluster string) (elsewhere bool) {
	hold := p.holds[u.UID]
	if hold != nil && hold.Cluster == cluster {
		return false
	}
	p.Release(u.UID)
	verdict := p.Judge(cluster, u.Pod, u.UID)
	verdict.Cluster = cluster
	p.Offer(now, u.UID, u.Info, u.Pod, verdict)
	return hold != nil
}

func (p *Pool) own(name string, uid types.UID) *LowerPod {
	if c := p.clusters[name]; c != nil {
		return c.snapshot.Own[uid]
	}
	return nil
}

// placed reports whether the room of a lower pod is told by the snapshot itself.
func (l *LowerPod) placed() bool { return l != nil && (l.Node != "" || l.Finished) }

// mirror notes that the lower pod exists. Its hint is where it will go, whatever was held before.
func (p *Pool) mirror(hold *Hold, own *LowerPod) {
	hold.State = Mirrored
	if own.Hint != "" && own.Hint != hold.Node {
		p.place(hold, own.Hint)
	}
}

func (p *Pool) place(hold *Hold, node string) {
	p.charge(hold, Resources.Minus)
	hold.Node = node
	p.charge(hold, Resources.Plus)
}

// Publish replaces the snapshot of a cluster. In the same step the holds whose pods the snapshot counts end, so
// no view ever counts a pod twice or not at all, and holds whose node no longer has their room are placed anew.
// It returns the upper UIDs of own pods that the lower scheduler has newly found no node for.
func (p *Pool) Publish(s *Snapshot) (overpromised []types.UID) {
	before := &Snapshot{}
	c := p.clusters[s.Cluster]
	if c == nil {
		c = &cluster{held: map[string]Resources{}}
		p.clusters[s.Cluster] = c
	} else {
		before = c.snapshot
	}
	c.snapshot = s
	p.rescale()
	for uid, own := range s.Own {
		switch {
		case own.placed():
			p.count(s.Cluster, uid)
		case p.holds[uid] != nil && p.holds[uid].Cluster == s.Cluster:
			p.mirror(p.holds[uid], own)
		}
		if was := before.Own[uid]; own.Unschedulable && (was == nil || !was.Unschedulable) {
			overpromised = append(overpromised, uid)
		}
	}
	for uid := range before.Own {
		if s.Own[uid] == nil { // It was there and has gone: nothing is on its way any more.
			p.count(s.Cluster, uid)
		}
	}
	p.settle(c)
	slices.Sort(overpromised)
	return overpromised
}

// count ends the hold of a pod, whose room is the snapshot's business from now on, and remembers that. It looks at
// holds of this cluster alone: what somebody writes into one cluster must not touch the holds in another.
func (p *Pool) count(cluster string, uid types.UID) {
	if known, ok := p.bound[uid]; ok && known.cluster == cluster {
		p.bound[uid] = binding{cluster: cluster, counted: true}
	}
	if hold := p.holds[uid]; hold != nil && hold.Cluster == cluster {
		p.Release(uid)
	}
}

// Keep ends the holds of pods that are not there any more and forgets their bindings: a net below the events, for
// one that was lost. Holds younger than a moment are kept, as their pods may not be in the caller's cache yet.
func (p *Pool) Keep(now time.Time, exists func(types.UID) bool) (ended int) {
	for _, hold := range p.Holds() {
		if hold.State != Reserved && now.Sub(hold.Since) > keepYoung && !exists(hold.UID) {
			p.Release(hold.UID)
			ended++
		}
	}
	for uid := range p.bound {
		if !exists(uid) {
			delete(p.bound, uid)
		}
	}
	return ended
}

// keepYoung is how long a pod may take from the scheduler's cache into ours.
const keepYoung = 10 * time.Second

// settle places the holds anew whose node has gone or no longer has room for all that is held on it, the newest
// first, as the oldest have told their node to the lower scheduler already.
func (p *Pool) settle(c *cluster) {
	for _, hold := range slices.Backward(p.Holds()) {
		if p.clusters[hold.Cluster] != c {
			continue
		}
		node := c.snapshot.Node(hold.Node)
		if node != nil && hold.pod.refuses(node) == "" &&
			node.Free().Minus(c.held[hold.Node]).Plus(hold.Requests).Fits(hold.Requests) {
			continue
		}
		if verdict := p.Judge(hold.Cluster, hold.pod, hold.UID); verdict.Fits {
			p.place(hold, verdict.Node)
		} else if node == nil {
			p.place(hold, "")
		}
	}
	for name := range c.held {
		if c.snapshot.Node(name) == nil {
			delete(c.held, name)
		}
	}
}

// Forget takes a cluster out of the pool, and the holds in it.
func (p *Pool) Forget(name string) {
	for _, hold := range p.Holds() {
		if hold.Cluster == name {
			p.Release(hold.UID)
		}
	}
	delete(p.clusters, name)
	p.rescale()
}

// Expire ends offers older than OfferedLimit, and returns how many.
func (p *Pool) Expire(now time.Time) int {
	ended := 0
	for _, hold := range p.Holds() {
		if hold.State == Offered && now.Sub(hold.Since) > OfferedLimit {
			p.Release(hold.UID)
			ended++
		}
	}
	return ended
}

func (p *Pool) rescale() {
	p.scale = Resources{}
	for _, c := range p.clusters {
		p.scale = p.scale.Max(c.snapshot.largest)
	}
}
