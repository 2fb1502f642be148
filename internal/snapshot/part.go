package snapshot

import (
	"maps"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Part is what one virtual node stands for of a lower cluster. The zero value is all of it.
type Part struct {
	// Nodes selects the lower nodes that take part, by their labels; nil is all.
	Nodes labels.Selector
	// Reserve is the room of those nodes that is left to the lower cluster's own growth.
	Reserve Reserve
}

// Reserve is room that no pod of ours may take, by resource: an amount, or a share (0 to 1) of what the usable nodes can
// give, or the sum of both.
type Reserve struct {
	Amount Resources
	Share  map[corev1.ResourceName]float64
}

// of is the reserve of a resource where that much of it can be given in all.
func (r Reserve) of(name corev1.ResourceName, allocatable int64) int64 {
	return add(r.Amount.Get(name), int64(math.Ceil(r.Share[name]*float64(allocatable))))
}

func (r Reserve) none() bool { return len(r.Share) == 0 && !r.Amount.some() }

func (p Part) takes(node *Node) bool {
	return p.Nodes == nil || p.Nodes.Matches(labels.Set(node.Object.Labels))
}

// Select returns the part of a snapshot that a virtual node stands for: its Nodes, Capacity, Free and LargestHole are those
// of the nodes that take part, and Advertised leaves the reserve out. Own and Pods are those of the whole cluster.
func (s *Snapshot) Select(part Part) *Snapshot {
	if part.Nodes == nil && part.Reserve.none() {
		return s
	}
	content := Content{
		Cluster: s.Cluster, Own: s.Own, Pods: s.Pods, Waiting: s.waiting, Surroundings: s.around, names: s.names,
	}
	for _, node := range s.Nodes {
		if part.takes(node) {
			content.Nodes = append(content.Nodes, node)
		}
	}
	selected := New(content)
	selected.reserve = part.Reserve
	return selected
}

// participants are the usable nodes of a part of a cell.
type participants struct {
	rows        []int
	allocatable Resources
}

// participants returns those that a selector takes, nil is all. They are found at the first need and then kept.
func (c *cell) participants(nodes labels.Selector) *participants {
	key := ""
	if nodes != nil {
		key = nodes.String()
	}
	if known := c.parts[key]; known != nil {
		return known
	}
	found := &participants{}
	for row, node := range c.nodes {
		if node != nil && node.Usable() && (Part{Nodes: nodes}).takes(node) {
			found.rows = append(found.rows, row)
			found.allocatable = found.allocatable.Plus(node.Allocatable)
		}
	}
	c.parts[key] = found
	return found
}

// Spare returns the verdict as it is, or a refusal if the pod would take room of its virtual node's reserve:
//
//	sum over participating usable nodes of max(0, free[r] - held[r]) - requests[r] >= reserve[r]   for every r asked for
func (p *Pool) Spare(v Verdict, pod *Pod, uid types.UID) Verdict {
	c := p.cells[v.Cluster]
	if c == nil || !v.Fits || pod.Part.Reserve.none() {
		return v
	}
	defer p.lift(c, uid)()
	if times, reason, short := c.spare(pod, 1); times < 1 {
		return Verdict{Cluster: v.Cluster, Reason: reason, Short: short}
	}
	return v
}

// spare counts how many pods like this one, up to limit, the reserve leaves room for; if none, what is short of what.
func (c *cell) spare(pod *Pod, limit int) (times int, reason keys.Reason, short Resources) {
	times = limit
	if pod.Part.Reserve.none() {
		return times, "", short
	}
	part := c.participants(pod.Part.Nodes)
	left := pod.Requests // Of what is not reserved there is enough.
	left.Scalars = maps.Clone(left.Scalars)
	pod.Requests.Each(func(name corev1.ResourceName, amount int64) {
		reserve := pod.Part.Reserve.of(name, part.allocatable.Get(name))
		column := c.room.index(name)
		if amount <= 0 || reserve <= 0 || column < 0 { // What no node has is for device classes to give.
			return
		}
		free := -reserve
		for _, row := range part.rows {
			free = add(free, max(0, c.room.amount[column][row]))
		}
		times = int(min(int64(times), max(0, free)/amount))
		left.set(name, free)
	})
	if times > 0 {
		return times, "", short
	}
	short = left.Short(pod.Requests)
	return 0, insufficient(short), short
}
