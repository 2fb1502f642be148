package oracle

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Pool is what decisions are made on: the newest snapshot of every lower cluster, and the holds on them.
//
// A Pool is not safe for concurrent use: one lock around it makes check-and-hold one step.
type Pool struct {
	clusters map[string]*cluster
	holds    map[types.UID]*Hold
	// bound has the upper pods that name a virtual node, as long as they exist.
	bound map[types.UID]binding
	// reserved has those of holds that are reservations.
	reserved map[types.UID]*Hold
	// learnt is what admission below adds to the pods of an owner.
	learnt map[origin]Resources
	// scale is the largest allocatable of each resource on any node, the unit of leftover.
	scale Resources
}

// binding is where an upper pod is bound. counted: its lower pod has been seen on a node there, finished or gone, so
// its room is usage (or free again) and never a hold, however late or often the event of the bind arrives.
type binding struct {
	cluster string
	counted bool
}

// cluster is a snapshot with what is on its way there.
type cluster struct {
	snapshot *Snapshot
	// room is what is free, less the holds, less what waiting pods will take.
	room columns
	// holds are those in this cluster, with and without a node.
	holds map[types.UID]*Hold
	// guests are the waiting pods of the cluster, where its scheduler is about to put them.
	guests []guest
	// apart counts the holds and guests that keep other pods away.
	apart int
	// lifted is the hold that the question at hand does not count.
	lifted *Hold
	// refusals are what kubelets have said lately, each until when it counts.
	refusals map[turned]time.Time
	counters map[string]*counter
}

// NewPool returns a pool without clusters.
func NewPool() *Pool {
	return &Pool{
		clusters: map[string]*cluster{}, holds: map[types.UID]*Hold{}, bound: map[types.UID]binding{}, reserved: map[types.UID]*Hold{},
		learnt: map[origin]Resources{},
	}
}

// Clusters returns the names of the clusters that have a snapshot, in order.
func (p *Pool) Clusters() []string { return slices.Sorted(maps.Keys(p.clusters)) }

// Snapshot returns the newest snapshot of a cluster, or nil.
func (p *Pool) Snapshot(name string) *Snapshot {
	if c := p.clusters[name]; c != nil {
		return c.snapshot
	}
	return nil
}

// Held returns the room held on a node.
func (p *Pool) Held(name, node string) Resources {
	var sum Resources
	if c := p.clusters[name]; c != nil {
		for _, hold := range c.holds {
			if hold.Node == node {
				sum = sum.Plus(hold.Requests)
			}
		}
	}
	return sum
}

// Verdict says whether a cluster takes a pod, and where.
type Verdict struct {
	Cluster string
	Fits    bool
	// Node is the tightest node that takes the pod; empty if none does.
	Node string
	// Leftover orders the clusters that fit, tightest first; its unit is shares of the largest node.
	Leftover float64
	full     bool // less than nothing is free on the node already
	// Reason and Short say why not: Short is what is missing on the node that comes closest.
	Reason keys.Reason
	Short  Resources
}

// Tighter orders verdicts: those that fit first, the tightest before the others, then by name.
func Tighter(a, b Verdict) int {
	if a.Fits != b.Fits {
		if a.Fits {
			return -1
		}
		return 1
	}
	if a.full != b.full {
		if b.full {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Leftover, b.Leftover), cmp.Compare(a.Cluster, b.Cluster))
}

// Judge asks whether a cluster takes the pod now, on top of every hold but the one of uid. It changes nothing. Of a pod
// that Undecided names, only a "no" is the last word.
func (p *Pool) Judge(name string, pod *Pod, uid types.UID) Verdict {
	verdict := Verdict{Cluster: name}
	c := p.clusters[name]
	if c == nil {
		verdict.Reason = keys.NotSynced
		return verdict
	}
	if pod.Refused != "" {
		verdict.Reason = pod.Refused
		return verdict
	}
	defer p.lift(c, uid)()
	a := c.ask(pod)
	node, left := a.best(p.scale)
	switch {
	case node < 0:
		verdict.Reason, verdict.Short = a.why(p.scale)
	case a.starts && p.company(name, pod, uid):
		verdict.Reason = keys.PodAffinity
	default:
		verdict.Fits, verdict.Node, verdict.Leftover, verdict.full = true, c.snapshot.Nodes[node].Name(), left, a.full(node)
	}
	return verdict
}

// company reports whether another cluster has, or will have, pods that the pod wants to be near to. A group that wants to
// be together may start anywhere, but only once: the lower schedulers, who know of their own cluster alone, would let it
// start in each.
func (p *Pool) company(name string, pod *Pod, uid types.UID) bool {
	for other, c := range p.clusters {
		if other == name {
			continue
		}
		back := p.lift(c, uid)
		starts := c.ask(pod).starts
		back()
		if !starts {
			return true
		}
	}
	return false
}

// Undecided reports whether the columns cannot say yes to the pod: claims, volumes or devices have a word in it.
func (p *Pool) Undecided(name string, pod *Pod) bool {
	c := p.clusters[name]
	return pod.Inexact || c != nil && c.snapshot.gives(pod)
}

// Candidates lists the nodes that the columns let the pod onto, the tightest first, at most limit.
func (p *Pool) Candidates(name string, pod *Pod, uid types.UID, limit int) []string {
	c := p.clusters[name]
	if c == nil {
		return nil
	}
	defer p.lift(c, uid)()
	a := c.ask(pod)
	before := a.before(a.leftover(p.scale))
	var fitting []int
	for i := range c.snapshot.Nodes {
		if a.takes(i) == "" {
			fitting = append(fitting, i)
		}
	}
	slices.SortStableFunc(fitting, func(a, b int) int {
		switch {
		case before(a, b):
			return -1
		case before(b, a):
			return 1
		default:
			return 0
		}
	})
	names := make([]string, 0, min(limit, len(fitting)))
	for _, i := range fitting[:min(limit, len(fitting))] {
		names = append(names, c.snapshot.Nodes[i].Name())
	}
	return names
}

// Takes says of every node of a cluster why it does not take the pod, "" if it does.
func (p *Pool) Takes(name string, pod *Pod, uid types.UID) map[string]keys.Reason {
	answers := map[string]keys.Reason{}
	if c := p.clusters[name]; c != nil {
		defer p.lift(c, uid)()
		a := c.ask(pod)
		for i, node := range c.snapshot.Nodes {
			answers[node.Name()] = a.takes(i)
		}
	}
	return answers
}

// lift leaves the hold of uid out of sight until the returned function puts it back.
func (p *Pool) lift(c *cluster, uid types.UID) (back func()) {
	hold := c.holds[uid]
	if hold == nil {
		return func() {}
	}
	c.lifted = hold
	c.charge(hold, -1)
	return func() {
		c.lifted = nil
		c.charge(hold, 1)
	}
}

// Replicas counts how many pods like this one the cluster takes, up to limit. It changes nothing.
func (p *Pool) Replicas(name string, pod *Pod, limit int) int {
	c := p.clusters[name]
	if c == nil || pod.Refused != "" {
		return 0
	}
	if !pod.plain() || c.snapshot.hasApart || c.apart > 0 {
		return p.oneByOne(name, pod, min(limit, mostOneByOne))
	}
	a := c.ask(pod)
	limit, _, _ = c.spare(pod, limit)
	count := 0
	for i := range c.snapshot.Nodes {
		if a.refuses(i) == "" && !a.absent {
			count += a.times(i, limit-count)
		}
	}
	return count
}

// times counts how often the pod fits on a node one after the other, up to limit.
func (a *ask) times(node, limit int) int {
	count := int64(limit)
	for i := range a.needs {
		if n := &a.needs[i]; !n.elsewhere(a.c.snapshot.Nodes[node]) {
			count = min(count, max(0, n.free[node]/n.amount))
		}
	}
	return int(count)
}

// mostOneByOne bounds the work of counting pods that are in each other's way.
const mostOneByOne = 1000

// oneByOne counts by placing pods until none fits any more, and takes them all back.
func (p *Pool) oneByOne(name string, pod *Pod, limit int) int {
	var trial []types.UID
	for i := range limit {
		uid := types.UID("replica-" + strconv.Itoa(i))
		verdict := p.Spare(p.Judge(name, pod, uid), pod, uid)
		if !verdict.Fits {
			break
		}
		p.Offer(time.Time{}, uid, Info{}, pod, verdict)
		trial = append(trial, uid)
	}
	for _, uid := range trial {
		p.Release(uid)
	}
	return len(trial)
}

// Offer holds room for the pod where the verdict says, in place of any hold it had before.
func (p *Pool) Offer(now time.Time, uid types.UID, info Info, pod *Pod, v Verdict) *Hold {
	p.Release(uid)
	hold := &Hold{UID: uid, Info: info, Cluster: v.Cluster, Node: v.Node, State: Offered, Requests: pod.Requests, Since: now, pod: pod}
	p.use(hold)
	p.put(hold)
	return hold
}

func (p *Pool) put(hold *Hold) {
	p.holds[hold.UID] = hold
	if c := p.clusters[hold.Cluster]; c != nil {
		c.holds[hold.UID] = hold
		c.charge(hold, 1)
	}
}

// charge takes a hold's room on its node, or with -1 gives it back. A hold without a node (its node went away and no
// other takes it) charges nothing until it is placed again.
func (c *cluster) charge(hold *Hold, sign int64) {
	node, ok := c.snapshot.index[hold.Node]
	if !ok {
		return
	}
	c.room.take(node, hold.Requests, sign)
	if len(hold.pod.apart) > 0 {
		c.apart += int(sign)
	}
}

// eachTenant visits the pods on their way to a node.
func (c *cluster) eachTenant(visit func(node int, t *tenant)) {
	for _, hold := range c.holds {
		if node, ok := c.snapshot.index[hold.Node]; ok && hold != c.lifted {
			visit(node, &hold.pod.tenant)
		}
	}
	for i := range c.guests {
		visit(c.guests[i].node, &c.guests[i].pod.tenant)
	}
}

// Release ends the hold of a pod, if it has one.
func (p *Pool) Release(uid types.UID) {
	hold := p.holds[uid]
	if hold == nil {
		return
	}
	delete(p.holds, uid)
	if c := p.clusters[hold.Cluster]; c != nil {
		c.charge(hold, -1)
		delete(c.holds, uid)
	}
	p.giveBack(hold)
}

// Bound reports whether the upper pod names a virtual node, as far as was observed.
func (p *Pool) Bound(uid types.UID) bool {
	_, bound := p.bound[uid]
	return bound
}

// Hold returns the hold of a pod, or nil.
func (p *Pool) Hold(uid types.UID) *Hold { return p.holds[uid] }

// Holds returns all holds, oldest first.
func (p *Pool) Holds() []*Hold { return byAge(p.holds) }

func byAge(holds map[types.UID]*Hold) []*Hold {
	return slices.SortedFunc(maps.Values(holds), func(a, b *Hold) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.UID, b.UID))
	})
}

func (p *Pool) rescale() {
	p.scale = Resources{}
	for _, c := range p.clusters {
		p.scale = p.scale.Max(c.snapshot.largest)
	}
}
