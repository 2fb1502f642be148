package oracle

import (
	"math"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// A reservation is a hold for a pod that does not exist yet. It passes to the next pod of its owner:
//
//	reserved ──> the offer of a pod of that owner, on the same node ──> over, once the pod is bound
//	    ^                                  |
//	    └──────── ends without a bind ─────┘
//
// Invariant: a reservation is in holds, or it is the used of exactly one hold. So its room counts once.

// first is the leftover of a verdict that uses a reservation: before any real one, as the room was kept for this pod.
const first = -math.MaxFloat64

// Reserve keeps room where the verdict says for the next pod of info.Owner that asks for no more than this one, until
// such a pod is bound or the time has come. The UID is one that no pod has.
func (p *Pool) Reserve(now time.Time, uid types.UID, info Info, pod *Pod, v Verdict, until time.Time) *Hold {
	hold := &Hold{
		UID: uid, Info: info, Cluster: v.Cluster, Node: v.Node, State: Reserved, Requests: pod.Requests, Since: now, Until: until, pod: pod,
	}
	p.Restore(hold)
	return hold
}

// Restore puts a hold back that is over, in place of any that its pod has now. A hold whose cluster has left is over
// for good; one whose node has gone takes no room until the next snapshot places it.
func (p *Pool) Restore(hold *Hold) {
	p.Release(hold.UID)
	if p.clusters[hold.Cluster] == nil {
		return
	}
	switch reservation := hold.used; {
	case reservation == nil:
	case p.holds[reservation.UID] == reservation: // It came back when the hold ended.
		p.Release(reservation.UID)
	default:
		hold.used = nil
	}
	if hold.State == Reserved {
		p.reserved[hold.UID] = hold
	}
	p.put(hold)
}

// JudgeFor is Judge for a pod of that owner: room reserved for it counts as its own and is taken before any other.
//
// It has the last word on new pods: a name that is taken and the reserve of the virtual node count, too, which are nothing
// to a pod that is bound already.
func (p *Pool) JudgeFor(owner Owner, name string, pod *Pod, uid types.UID) Verdict {
	if p.Conflicts(name, pod, uid) {
		return Verdict{Cluster: name, Reason: keys.NameConflict}
	}
	defer p.Lend(owner, name, pod, uid)()
	for _, hold := range p.mine(owner, name, pod, uid) {
		if v := p.JudgeNode(name, hold.Node, pod, uid); v.Fits {
			v.Leftover, v.full = first, false
			return v
		}
	}
	return p.Spare(p.Judge(name, pod, uid), pod, uid)
}

// Lend leaves the room reserved for a pod out of sight in a cluster until the returned function puts it back, so that
// every question about the pod finds it free. Nothing else may happen in between.
func (p *Pool) Lend(owner Owner, name string, pod *Pod, uid types.UID) (back func()) {
	c := p.clusters[name]
	var lent []*Hold
	for _, hold := range p.mine(owner, name, pod, uid) {
		if hold.State == Reserved && c.holds[hold.UID] == hold {
			c.charge(hold, -1)
			delete(c.holds, hold.UID)
			lent = append(lent, hold)
		}
	}
	return func() {
		for _, hold := range lent {
			c.holds[hold.UID] = hold
			c.charge(hold, 1)
		}
	}
}

// mine returns the holds in a cluster whose places are meant for the pod, oldest first: its own if that stands in for a
// reservation already, as the others are for the next pods, else the reservations it may use.
func (p *Pool) mine(owner Owner, name string, pod *Pod, uid types.UID) []*Hold {
	if pod == nil {
		return nil
	}
	if own := p.holds[uid]; own != nil && own.used != nil && own.Cluster == name {
		return []*Hold{own}
	}
	return p.reservations(owner, name, pod)
}

// reservations returns those in a cluster that a pod of that owner may use, oldest first. What admission below adds to
// the pods does not count here.
func (p *Pool) reservations(owner Owner, name string, pod *Pod) []*Hold {
	fitting := map[types.UID]*Hold{}
	for uid, hold := range p.reserved {
		if hold.Cluster == name && hold.Node != "" && hold.Owner.means(owner) && hold.pod.sent().Fits(pod.sent()) {
			fitting[uid] = hold
		}
	}
	return byAge(fitting)
}

// means reports whether o, which may leave the UID out, is that owner.
func (o Owner) means(owner Owner) bool {
	if o.UID == "" {
		owner.UID = ""
	}
	return o == owner
}

// JudgeNode is Judge of one node alone.
func (p *Pool) JudgeNode(name, node string, pod *Pod, uid types.UID) Verdict {
	v := Verdict{Cluster: name, Reason: keys.NotSynced}
	c := p.clusters[name]
	if c == nil {
		return v
	}
	i, known := c.snapshot.index[node]
	if v.Reason = pod.Refused; v.Reason != "" {
		return v
	}
	if !known {
		v.Reason = keys.NodeAffinity
		return v
	}
	defer p.lift(c, uid)()
	a := c.ask(pod)
	v.Reason = a.takes(i)
	switch {
	case v.Reason == "" && a.starts && p.company(name, pod, uid):
		v.Reason = keys.PodAffinity
	case v.Reason == "":
		v.Fits, v.Node, v.Leftover, v.full = true, node, a.leftover(p.scale)(i)-a.asked(p.scale), a.full(i)
		return v
	case a.refuses(i) == "" && c.snapshot.Nodes[i].Free().Fits(pod.Requests):
		v.Reason = keys.Held
	}
	v.Short = c.room.row(i).Short(pod.Requests)
	return v
}

// use lets a pod's hold stand in for a reservation on the same node, if there is one for it.
func (p *Pool) use(hold *Hold) {
	for _, reservation := range p.reservations(hold.Owner, hold.Cluster, hold.pod) {
		if reservation.Node == hold.Node {
			p.Release(reservation.UID)
			hold.used = reservation
			return
		}
	}
}

// giveBack ends what a hold that is over has to do with reservations: its own, or the one that it stood in for, which
// comes back unless the pod has come to the cluster.
func (p *Pool) giveBack(hold *Hold) {
	delete(p.reserved, hold.UID)
	offered := hold.State == Offered || hold.State == Chosen
	if hold.used != nil && offered && p.own(hold.Cluster, hold.UID) == nil {
		p.Restore(hold.used)
	}
}

// Withdraw ends a reservation, also one that a pod's offer stands in for: it does not come back then. Any other hold it
// ends as Release does.
func (p *Pool) Withdraw(uid types.UID) {
	for _, hold := range p.holds {
		if hold.used != nil && hold.used.UID == uid {
			hold.used = nil
		}
	}
	p.Release(uid)
}

// expireReserved ends the reservations whose time has come, and returns how many.
func (p *Pool) expireReserved(now time.Time) int {
	ended := 0
	for uid, hold := range p.reserved {
		if !now.Before(hold.Until) {
			p.Release(uid)
			ended++
		}
	}
	return ended
}
