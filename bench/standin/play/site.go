package play

import (
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/tessera-k8s/tessera/bench/standin/api"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Site is one cluster as its scheduler and kubelets see it. It belongs to the goroutine of the player.
type Site struct {
	cluster                     *api.Cluster
	maker                       *objects.Cluster
	pods, nodes, spaces, quotas *api.Resource
	random                      *rand.Rand

	serial uint32 // of the next pod
	room   []room // by number; the nodes that are rows come first, in their order
	plain  int    // how many those are
	byName map[string]int
	// charged are the objects among the pods that take room, by namespace/name.
	charged map[string]charge
	waiting map[string]bool // those that no node takes as yet
	ending  map[string]bool // namespaces that are being emptied

	podsSeen, nodesSeen, spacesSeen *rows.Cursor
	told                            uint64 // how much has been told of them all at the last look
	beat                            int    // the node whose heartbeat is next
	beats                           float64
}

// room is a node: what it has, what of that is free and, if somebody has changed it, what it is.
type room struct {
	has    objects.Amounts
	free   objects.Amounts
	object *corev1.Node
	gone   bool
}

// charge is what a pod takes on a node.
type charge struct {
	node int
	asks objects.Amounts
}

func (s *Site) take(node int, asks objects.Amounts) {
	s.room[node].free = s.room[node].free.Minus(asks)
}

func (s *Site) give(node int, asks objects.Amounts) { s.room[node].free = s.room[node].free.Plus(asks) }

// open reports whether a node takes pods that ask for nothing special.
func (r *room) open() bool {
	return !r.gone && (r.object == nil || !r.object.Spec.Unschedulable && len(r.object.Spec.Taints) == 0)
}

// choose returns the better of two nodes drawn by lot, or the first that has room, or -1.
func (s *Site) choose(asks objects.Amounts) int {
	n := len(s.room)
	if n == 0 {
		return -1
	}
	best := -1
	for range 2 {
		i := s.random.IntN(n)
		if r := &s.room[i]; r.open() && r.free.Covers(asks) && (best < 0 || r.free.MilliCPU > s.room[best].free.MilliCPU) {
			best = i
		}
	}
	if best >= 0 {
		return best
	}
	for k, i := 0, s.random.IntN(n); k < n; k, i = k+1, (i+1)%n {
		if s.room[i].open() && s.room[i].free.Covers(asks) {
			return i
		}
	}
	return -1
}

// enough is how many nodes with room are compared.
const enough = 50

// chooseFor returns the node of a client's pod: the one it is nominated for if that takes it, else the emptiest of the first
// that do, or -1.
func (s *Site) chooseFor(pod *corev1.Pod, asks objects.Amounts) int {
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	picky := len(pod.Spec.NodeSelector) > 0 || pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil
	fits := func(i int) bool {
		return s.room[i].free.Covers(asks) && s.lets(i, pod) && (!picky || matches(affinity, s.node(i)))
	}
	if i, ok := s.numberOf(pod.Status.NominatedNodeName); ok && fits(i) {
		return i
	}
	n, best, found := len(s.room), -1, 0
	if n == 0 {
		return -1
	}
	for k, i := 0, s.random.IntN(n); k < n && found < enough; k, i = k+1, (i+1)%n {
		if !fits(i) {
			continue
		}
		found++
		if best < 0 || s.room[i].free.MilliCPU > s.room[best].free.MilliCPU {
			best = i
		}
	}
	return best
}

func matches(affinity nodeaffinity.RequiredNodeAffinity, node *corev1.Node) bool {
	ok, err := affinity.Match(node)
	return ok && err == nil
}

// lets reports whether a node's taints let a pod in, and its resources are all there.
func (s *Site) lets(i int, pod *corev1.Pod) bool {
	r := &s.room[i]
	if r.gone {
		return false
	}
	if r.object == nil {
		return !special(pod, nil)
	}
	taints := r.object.Spec.Taints
	if r.object.Spec.Unschedulable {
		taints = append(slices.Clip(taints), corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	_, refused := scheduling.FindMatchingUntoleratedTaint(klog.Background(), taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule
	}, false)
	return !refused && !special(pod, r.object)
}

// special reports whether a pod asks for a resource that a node does not have at all. How much of it is taken is not counted.
func special(pod *corev1.Pod, node *corev1.Node) bool {
	for _, c := range pod.Spec.Containers {
		for name, asked := range c.Resources.Requests {
			switch name {
			case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
				continue
			}
			if asked.IsZero() {
				continue
			}
			if node == nil {
				return true
			}
			if has := node.Status.Allocatable[name]; has.Cmp(asked) < 0 {
				return true
			}
		}
	}
	return false
}

// node is the node of a number.
func (s *Site) node(i int) *corev1.Node {
	if object := s.room[i].object; object != nil {
		return object
	}
	row := rows.Row{Serial: uint32(i), Node: -1, Shape: uint16(i % s.maker.NodeShapes())}
	node := &corev1.Node{}
	node.Name, node.Labels = objects.NodeName(uint32(i)), objects.Nodes{Cluster: s.maker}.Labels(row)
	return node
}

// numberOf is the number of the node of a name.
func (s *Site) numberOf(name string) (int, bool) {
	if i, ok := s.byName[name]; ok {
		return i, true
	}
	i, ok := objects.NodeNumber(name)
	return i, ok && i < s.plain
}
