package snapshot

import (
	"cmp"
	"maps"
	"slices"
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
	// scale is the largest allocatable of each resource on any node, the unit of leftover.
	scale Resources
}

// binding is where an upper pod is bound. counted: its lower pod has been seen on a node there, finished or gone, so
// its room is usage (or free again) and never a hold, however late or often the event of the bind arrives.
type binding struct {
	cluster string
	counted bool
}

// cluster is a snapshot with the room held on its nodes.
//
// Invariant: held[n] = sum of hold.Requests over the holds with hold.Cluster == this and hold.Node == n.
type cluster struct {
	snapshot *Snapshot
	held     map[string]Resources
}

// NewPool returns a pool without clusters.
func NewPool() *Pool {
	return &Pool{clusters: map[string]*cluster{}, holds: map[types.UID]*Hold{}, bound: map[types.UID]binding{}}
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
	if c := p.clusters[name]; c != nil {
		return c.held[node]
	}
	return Resources{}
}

// Verdict says whether a cluster takes a pod, and where.
type Verdict struct {
	Cluster string
	Fits    bool
	// Node is the tightest node that takes the pod; empty if none does.
	Node string
	// Leftover orders the clusters that fit, tightest first; its unit is shares of the largest node.
	Leftover float64
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
	return cmp.Or(cmp.Compare(a.Leftover, b.Leftover), cmp.Compare(a.Cluster, b.Cluster))
}

// Judge asks whether a cluster takes the pod now, on top of every hold but the one of uid. It changes nothing.
func (p *Pool) Judge(name string, pod *Pod, uid types.UID) Verdict {
	c := p.clusters[name]
	if c == nil {
		return Verdict{Cluster: name, Reason: keys.NotSynced}
	}
	free := func(node *Node) Resources { return node.Free().Minus(c.held[node.Name()]) }
	if own := p.holds[uid]; own != nil && own.Cluster == name {
		free = func(node *Node) Resources {
			room := node.Free().Minus(c.held[node.Name()])
			if node.Name() == own.Node {
				room = room.Plus(own.Requests)
			}
			return room
		}
	}
	best := Verdict{Cluster: name}
	for _, node := range c.snapshot.Nodes {
		room := free(node)
		if !room.Fits(pod.Requests) || pod.refuses(node) != "" {
			continue
		}
		if left := leftover(room, pod.Requests, p.scale); !best.Fits || left < best.Leftover {
			best.Fits, best.Node, best.Leftover = true, node.Name(), left
		}
	}
	if !best.Fits {
		best.Reason, best.Short = c.why(pod, free)
	}
	return best
}

// why explains a cluster in which no node takes the pod. The order of the answers is from the cause that lies
// furthest from the pod's reach to the nearest: no node may take it, the total is too small, held by others,
// fragmented.
func (c *cluster) why(pod *Pod, free func(*Node) Resources) (keys.Reason, Resources) {
	var total, closest Resources
	reason, willing, unheld := keys.Taint, false, false
	gap := 0.0
	for _, node := range c.snapshot.Nodes {
		if refused := pod.refuses(node); refused != "" {
			if refused == keys.NodeAffinity && !willing {
				reason = refused
			}
			continue
		}
		room := free(node)
		total = total.Plus(room.Positive())
		unheld = unheld || node.Free().Fits(pod.Requests)
		short := room.Short(pod.Requests)
		if size := leftover(short, Resources{}, pod.Requests); !willing || size < gap {
			gap, closest = size, short
		}
		willing = true
	}
	switch {
	case !willing:
		return reason, Resources{}
	case unheld:
		return keys.Held, closest
	case total.Fits(pod.Requests):
		return keys.Fragmented, closest
	default:
		return insufficient(total.Short(pod.Requests)), closest
	}
}

// Replicas counts how many pods like this one the cluster takes, up to limit. It changes nothing.
func (p *Pool) Replicas(name string, pod *Pod, limit int) int {
	c := p.clusters[name]
	if c == nil {
		return 0
	}
	count := 0
	for _, node := range c.snapshot.Nodes {
		if pod.refuses(node) != "" {
			continue
		}
		count += node.Free().Minus(c.held[node.Name()]).times(pod.Requests, limit-count)
	}
	return count
}

// Offer holds room for the pod where the verdict says, in place of any hold it had before.
func (p *Pool) Offer(now time.Time, uid types.UID, info Info, pod *Pod, v Verdict) *Hold {
	p.Release(uid)
	hold := &Hold{UID: uid, Info: info, Cluster: v.Cluster, Node: v.Node, State: Offered, Requests: pod.Requests, Since: now, pod: pod}
	p.put(hold)
	return hold
}

func (p *Pool) put(hold *Hold) {
	p.holds[hold.UID] = hold
	p.charge(hold, Resources.Plus)
}

// charge adds or takes away a hold's room on its node. A hold without a node (its node went away and no other
// takes it) charges nothing until it is placed again.
func (p *Pool) charge(hold *Hold, op func(Resources, Resources) Resources) {
	c := p.clusters[hold.Cluster]
	if c == nil || hold.Node == "" {
		return
	}
	c.held[hold.Node] = op(c.held[hold.Node], hold.Requests)
}

// Release ends the hold of a pod, if it has one.
func (p *Pool) Release(uid types.UID) {
	if hold := p.holds[uid]; hold != nil {
		p.charge(hold, Resources.Minus)
		delete(p.holds, uid)
	}
}

// Hold returns the hold of a pod, or nil.
func (p *Pool) Hold(uid types.UID) *Hold { return p.holds[uid] }

// Holds returns all holds, oldest first.
func (p *Pool) Holds() []*Hold {
	return slices.SortedFunc(maps.Values(p.holds), func(a, b *Hold) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.UID, b.UID))
	})
}
