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
	// Refused is when the pod had last been refused when the room was offered, by the clock of those who wrote that down.
	Refused time.Time
	// Until is when a reservation ends by the clock; zero on any other hold.
	Until time.Time

	pod  *Pod
	used *Hold // the reservation that this hold stands in for
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
		p.unkeep(u.UID)
	case u.Finished:
		p.Release(u.UID)
		p.unkeep(u.UID)
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
// nomination may be older than the last answer, which then stands, or than the bind, which its lower pod shows.
func (p *Pool) observeChosen(now time.Time, u UpperPod) {
	if p.own(u.Chosen, u.UID) != nil {
		return
	}
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
	case hold.State == Offered && u.Refused.After(hold.Since) && u.Refused.After(hold.Refused):
		// A condition has whole seconds: only one of a later second is surely newer than the offer. Nor is the one that was
		// there before it, whose clock may be ahead of ours.
		p.Release(u.UID)
	}
}

// observeBound turns the hold of a bound pod firm, unless its lower pod already counts as usage.
func (p *Pool) observeBound(now time.Time, u UpperPod) (elsewhere bool) {
	own := p.own(u.Cluster, u.UID)
	known := p.bound[u.UID]
	counted := known.cluster == u.Cluster && known.counted || own.placed()
	p.bound[u.UID] = binding{cluster: u.Cluster, counted: counted}
	p.keep(u.UID, u.Cluster, u.Pod)
	if own != nil {
		p.learn(u.Cluster, u.Owner, u.Pod, own)
	}
	if counted || own.lost() {
		p.Release(u.UID)
		return false
	}
	c := p.cells[u.Cluster]
	if own != nil { // It may have a seat as a pod without a hold.
		seated := c.guests
		c.unseat()
		defer func() {
			c.seat(&p.scale)
			c.gainSeats(seated)
		}()
	}
	elsewhere = p.move(now, u, u.Cluster)
	hold := p.holds[u.UID]
	hold.State = Bound
	if own != nil {
		c.mirror(hold, own)
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
	pod := p.Larger(cluster, u.Owner, u.Pod)
	verdict := p.Judge(cluster, pod, u.UID)
	verdict.Cluster = cluster
	p.Offer(now, u.UID, u.Info, pod, verdict)
	return hold != nil
}

func (p *Pool) own(name string, uid types.UID) *LowerPod {
	if c := p.cells[name]; c != nil {
		return c.own[uid]
	}
	return nil
}

// placed reports whether the room of a lower pod is told by the snapshot itself.
func (l *LowerPod) placed() bool { return l != nil && (l.Node != "" || l.Finished) }

// lost reports whether the lower scheduler has found no node for the pod: its hold is worth nothing any more.
func (l *LowerPod) lost() bool { return l != nil && l.Node == "" && !l.Finished && l.Unschedulable }

// mirror notes that the lower pod exists. Its hint is where it will go, if that node is there, and its requests are what it
// will take, whatever was held before.
func (c *cell) mirror(hold *Hold, own *LowerPod) {
	c.charge(hold, -1)
	if _, there := c.rows[own.Hint]; there && own.Hint != hold.Node || !hold.Requests.equal(own.Requests) {
		c.gain(hold.Node)
		c.easeAll(hold.pod)
	}
	hold.State = Mirrored
	if !hold.Requests.equal(own.Requests) {
		hold.pod = hold.pod.with(own.Requests.Minus(hold.pod.sent()))
		hold.Requests = own.Requests
	}
	if _, there := c.rows[own.Hint]; there {
		hold.Node = own.Hint
	}
	c.charge(hold, 1)
}

// seeOwn brings the hold of one of our lower pods in line with it.
func (p *Pool) seeOwn(c *cell, uid types.UID, own *LowerPod) {
	hold := c.holds[uid]
	if hold != nil {
		p.learn(c.name, hold.Owner, hold.pod, own)
	}
	switch {
	case own.placed():
		p.count(c.name, uid)
	case hold == nil:
	case own.lost():
		p.Release(uid)
	default:
		c.mirror(hold, own)
	}
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
	for uid := range p.anti.pods {
		if p.holds[uid] == nil && !exists(uid) {
			p.unkeep(uid)
		}
	}
	return ended
}

// keepYoung is how long a pod may take from the scheduler's cache into ours.
const keepYoung = 10 * time.Second

// settle places the holds anew whose node has gone or no longer has room for all that is held on it, the newest
// first, as the oldest have told their node to the lower scheduler already.
func (p *Pool) settle(c *cell) {
	for _, hold := range slices.Backward(byAge(c.holds)) {
		row, there := c.rows[hold.Node]
		if there && p.stands(c, hold, row) {
			continue
		}
		if verdict := p.Judge(hold.Cluster, hold.pod, hold.UID); verdict.Fits {
			c.place(hold, verdict.Node)
		} else if !there {
			c.place(hold, "")
		}
	}
}

// stands reports whether a hold can stay on its node.
func (p *Pool) stands(c *cell, hold *Hold, row int) bool {
	if hold.pod.plain() && c.terms.empty() && c.apart == 0 && len(c.refusals) == 0 { // The usual case, and many of them.
		return hold.pod.refuses(c.nodes[row]) == "" && c.room.keeps(row, hold.Requests)
	}
	defer p.lift(c, hold.UID)()
	a := c.ask(hold.pod, &p.scale)
	if hold.State == Mirrored {
		a.turned = nil // The lower scheduler has its hint and does not know what kubelets have said.
	}
	return a.takes(row) == ""
}

// Forget takes a cluster out of the pool, and the holds in it.
func (p *Pool) Forget(name string) {
	delete(p.cells, name) // First, so that no reservation comes back.
	for _, hold := range p.Holds() {
		if hold.Cluster == name {
			p.Release(hold.UID)
		}
	}
	p.unlearn(name)
	p.rescale()
}

// Expire ends offers older than OfferedLimit and reservations whose time has come, and returns how many of each. Nodes that
// have been left out for long enough because their kubelets refused pods are asked again.
func (p *Pool) Expire(now time.Time) (offers, reservations int) {
	for _, hold := range p.Holds() {
		if hold.State == Offered && now.Sub(hold.Since) > OfferedLimit {
			p.Release(hold.UID)
			offers++
		}
	}
	p.forgive(now)
	return offers, p.expireReserved(now)
}
