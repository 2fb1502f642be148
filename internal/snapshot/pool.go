package snapshot

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
	cells map[string]*cell
	holds map[types.UID]*Hold
	// bound has the upper pods that name a virtual node, as long as they exist.
	bound map[types.UID]binding
	// reserved has those of holds that are reservations.
	reserved map[types.UID]*Hold
	// learnt is what admission below adds to the pods of an owner.
	learnt map[origin]Resources
	// anti has the anti-affinity over clusters of pods that are there or on their way.
	anti  antiAffinity
	scale scale
}

// scale is the largest allocatable of each resource on any node, the unit of leftover.
type scale struct {
	most    Resources
	version uint64
}

// binding is where an upper pod is bound. counted: its lower pod has been seen on a node there, finished or gone, so
// its room is usage (or free again) and never a hold, however late or often the event of the bind arrives.
type binding struct {
	cluster string
	counted bool
}

// NewPool returns a pool without clusters.
func NewPool() *Pool {
	return &Pool{
		cells: map[string]*cell{}, holds: map[types.UID]*Hold{}, bound: map[types.UID]binding{}, reserved: map[types.UID]*Hold{},
		learnt: map[origin]Resources{}, anti: newAntiAffinity(),
	}
}

// Clusters returns the names of the clusters that have a snapshot, in order.
func (p *Pool) Clusters() []string { return slices.Sorted(maps.Keys(p.cells)) }

// Has reports whether a cluster is known.
func (p *Pool) Has(name string) bool { return p.cells[name] != nil }

// Snapshot returns a cluster as it is now, or nil.
func (p *Pool) Snapshot(name string) *Snapshot {
	if c := p.cells[name]; c != nil {
		return c.snapshot()
	}
	return nil
}

// Held returns the room held on a node.
func (p *Pool) Held(name, node string) Resources {
	var sum Resources
	if c := p.cells[name]; c != nil {
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
	// Node is the best node that takes the pod; empty if none does.
	Node string
	// Preference is how much that is preferred, see Weigh; 0 where nobody prefers anything.
	Preference int64
	// Leftover orders clusters that are equally preferred, tightest first; its unit is shares of the largest node.
	Leftover float64
	// Reason and Short say why not: Short is what is missing on the node that comes closest.
	Reason keys.Reason
	Short  Resources

	reserved bool              // the room is reserved for the pod
	labels   map[string]string // of the virtual node
	left     left
	scores   *scores // nil where nobody prefers anything
}

// Tighter orders verdicts: those that fit first, room that is reserved, then the most preferred, then the tightest, then by name.
func Tighter(a, b Verdict) int {
	if a.Fits != b.Fits {
		if a.Fits {
			return -1
		}
		return 1
	}
	if a.reserved != b.reserved {
		if a.reserved {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(b.Preference, a.Preference), compareLeft(a.left, b.left), cmp.Compare(a.Cluster, b.Cluster))
}

// Judge asks whether a cluster takes the pod now, on top of every hold but the one of uid. It changes nothing. Of a pod
// that Undecided names, only a "no" is the last word.
func (p *Pool) Judge(name string, pod *Pod, uid types.UID) Verdict {
	verdict := Verdict{Cluster: name}
	c := p.cells[name]
	if c == nil {
		verdict.Reason = keys.NotSynced
		return verdict
	}
	if pod.Refused != "" {
		verdict.Reason = pod.Refused
		return verdict
	}
	defer p.lift(c, uid)()
	a := c.ask(pod, &p.scale)
	verdict.labels = pod.Above.Labels
	var row int
	if s := a.scorer(); s != nil {
		verdict.scores = s.all()
		row = verdict.scores.anyRow()
	} else {
		row = a.best()
	}
	switch {
	case row < 0:
		verdict.Reason, verdict.Short = a.why()
	case a.starts && p.company(name, pod, uid):
		verdict.Reason = keys.PodAffinity
	default:
		verdict.take(a, row)
		Weigh([]*Verdict{&verdict})
	}
	return verdict
}

// take lets a verdict say that the pod goes to a node.
func (v *Verdict) take(a *ask, row int) {
	v.Fits, v.Node, v.left = true, a.c.nodes[row].Name(), a.left(row)
	v.Leftover = v.left.over
}

// company reports whether another cluster has, or will have, pods that the pod wants to be near to. A group that wants to
// be together may start anywhere, but only once: the lower schedulers, who know of their own cluster alone, would let it
// start in each.
func (p *Pool) company(name string, pod *Pod, uid types.UID) bool {
	for other, c := range p.cells {
		if other == name {
			continue
		}
		back := p.lift(c, uid)
		starts := c.ask(pod, &p.scale).starts
		back()
		if !starts {
			return true
		}
	}
	return false
}

// Undecided reports whether the columns cannot say yes to the pod: claims, volumes or devices have a word in it.
func (p *Pool) Undecided(name string, pod *Pod) bool {
	c := p.cells[name]
	return pod.Inexact || c != nil && c.gives(pod)
}

// Candidates lists the nodes that the columns let the pod onto, the most preferred and then the tightest first, at most limit.
func (p *Pool) Candidates(name string, pod *Pod, uid types.UID, limit int) []string {
	c := p.cells[name]
	if c == nil {
		return nil
	}
	preferred := p.Preferences(map[string]*Pod{name: pod}, uid)[name]
	defer p.lift(c, uid)()
	a := c.ask(pod, &p.scale)
	var fitting []int
	for _, row := range c.inOrder() {
		if a.takes(row) == "" {
			fitting = append(fitting, row)
		}
	}
	slices.SortStableFunc(fitting, func(x, y int) int {
		return cmp.Or(cmp.Compare(preferred[c.nodes[y].Name()], preferred[c.nodes[x].Name()]), compareLeft(a.left(x), a.left(y)))
	})
	names := make([]string, 0, min(limit, len(fitting)))
	for _, row := range fitting[:min(limit, len(fitting))] {
		names = append(names, c.nodes[row].Name())
	}
	return names
}

// Takes says of every node of a cluster why it does not take the pod, "" if it does.
func (p *Pool) Takes(name string, pod *Pod, uid types.UID) map[string]keys.Reason {
	answers := map[string]keys.Reason{}
	if c := p.cells[name]; c != nil {
		defer p.lift(c, uid)()
		a := c.ask(pod, &p.scale)
		for _, row := range c.inOrder() {
			answers[c.nodes[row].Name()] = a.takes(row)
		}
	}
	return answers
}

// lift leaves the hold of uid out of sight until the returned function puts it back.
func (p *Pool) lift(c *cell, uid types.UID) (back func()) {
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
	c := p.cells[name]
	if c == nil || pod.Refused != "" {
		return 0
	}
	if !pod.plain() || !c.terms.empty() || c.apart > 0 {
		return p.oneByOne(name, pod, min(limit, mostOneByOne))
	}
	a := c.ask(pod, &p.scale)
	limit, _, _ = c.spare(pod, limit)
	count := 0
	for _, row := range c.inOrder() {
		if a.refuses(row) == "" && !a.absent {
			count += a.times(row, limit-count)
		}
	}
	return count
}

// times counts how often the pod fits on a node one after the other, up to limit.
func (a *ask) times(node, limit int) int {
	count := int64(limit)
	for i := range a.needs {
		if n := &a.needs[i]; !n.elsewhere(a.c.nodes[node]) {
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
	if hold.State != Reserved {
		p.keep(hold.UID, hold.Cluster, hold.pod)
	}
	if c := p.cells[hold.Cluster]; c != nil {
		c.holds[hold.UID] = hold
		c.charge(hold, 1)
	}
}

// Release ends the hold of a pod, if it has one.
func (p *Pool) Release(uid types.UID) {
	hold := p.holds[uid]
	if hold == nil {
		return
	}
	delete(p.holds, uid)
	if c := p.cells[hold.Cluster]; c != nil {
		c.charge(hold, -1)
		c.gain(hold.Node)
		c.easeAll(hold.pod)
		delete(c.holds, uid)
	}
	if !p.Bound(uid) && p.own(hold.Cluster, uid) == nil {
		p.unkeep(uid)
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
	var most Resources
	for _, c := range p.cells {
		most = most.Max(c.largest)
	}
	if !most.equal(p.scale.most) {
		p.scale = scale{most: most, version: p.scale.version + 1}
	}
}
