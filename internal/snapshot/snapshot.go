package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is one lower node as it was seen. Immutable.
type Node struct {
	// Object holds metadata.name, labels, taints and unschedulable; nothing else is kept of the node.
	Object *corev1.Node
	Ready  bool
	// Allocatable and Used: Used is the plain sum of the requests of the unfinished pods on the node.
	Allocatable, Used Resources

	free Resources
}

// NewNode builds a node from what the API server says of it and the pods bound to it.
func NewNode(node *corev1.Node, pods []*LowerPod) *Node {
	n := &Node{Object: TrimNode(node), Allocatable: FromList(node.Status.Allocatable)}
	n.Ready = slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	for _, pod := range pods {
		if !pod.Finished {
			n.Used = n.Used.Plus(pod.Requests)
		}
	}
	n.free = n.Allocatable.Minus(n.Used)
	return n
}

// TrimNode keeps what fit looks at.
func TrimNode(node *corev1.Node) *corev1.Node {
	trimmed := &corev1.Node{Spec: corev1.NodeSpec{Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable}}
	trimmed.Name, trimmed.Labels = node.Name, node.Labels
	return trimmed
}

// Name is the node's name.
func (n *Node) Name() string { return n.Object.Name }

// Usable reports whether new pods may come to the node at all.
func (n *Node) Usable() bool { return n.Ready && !n.Object.Spec.Unschedulable }

// Free = Allocatable - Used; negative where a node has shrunk under its pods.
func (n *Node) Free() Resources { return n.free }

// Snapshot is one lower cluster at one moment. Immutable.
type Snapshot struct {
	Cluster string
	// Nodes in order of their names.
	Nodes []*Node
	// Own holds the pods of our upper cluster by the UID of the upper pod, finished ones too.
	Own map[types.UID]*LowerPod
	// Pods counts the unfinished pods of the cluster.
	Pods int

	index   map[string]int
	largest Resources // of each resource, the most that any node can give
}

// New builds a snapshot. It owns its arguments from then on.
func New(cluster string, nodes []*Node, own map[types.UID]*LowerPod, pods int) *Snapshot {
	slices.SortFunc(nodes, compareNodes)
	s := &Snapshot{Cluster: cluster, Nodes: nodes, Own: own, Pods: pods, index: make(map[string]int, len(nodes))}
	for i, node := range nodes {
		s.index[node.Name()] = i
		s.largest = s.largest.Max(node.Allocatable)
	}
	return s
}

// Node returns the node of that name, or nil.
func (s *Snapshot) Node(name string) *Node {
	if i, ok := s.index[name]; ok {
		return s.Nodes[i]
	}
	return nil
}

// Capacity is the plain sum of what the usable nodes can give.
func (s *Snapshot) Capacity() Resources {
	var sum Resources
	for _, node := range s.Nodes {
		if node.Usable() {
			sum = sum.Plus(node.Allocatable)
		}
	}
	return sum
}

// Free is the sum over the usable nodes of what is free, a negative node counting as zero.
func (s *Snapshot) Free() Resources {
	var sum Resources
	for _, node := range s.Nodes {
		if node.Usable() {
			sum = sum.Plus(node.Free().Positive())
		}
	}
	return sum
}

// Advertised is the allocatable of the virtual node: a number that is honest about the order of things and never
// makes the upper scheduler's own resource filter refuse a pod that some lower node can take.
//
//	advertised[r] = own[r] + sum over usable nodes of max(0, free[r]) + largest usable node's allocatable[r]
//
// own is what the upper scheduler charges the virtual node for: the requests of our own unfinished upper pods on
// it. Every resource that any node of the cluster lists is in it, so that none looks unknown above.
func (s *Snapshot) Advertised(own Resources) Resources {
	var slack Resources
	for _, node := range s.Nodes {
		slack = slack.Max(Resources{Scalars: zeros(node.Allocatable.Scalars)})
		if node.Usable() {
			slack = slack.Max(node.Allocatable)
		}
	}
	return own.Plus(s.Free()).Plus(slack)
}

// LargestHole is what is free on the usable node with the largest dominant share: the resource of which it has
// the largest part of all that is free in the cluster decides (Ghodsi et al., NSDI'11).
func (s *Snapshot) LargestHole() Resources {
	var hole Resources
	total, largest := s.Free(), -1.0
	for _, node := range s.Nodes {
		if !node.Usable() {
			continue
		}
		free, dominant := node.Free().Positive(), 0.0
		free.Each(func(name corev1.ResourceName, amount int64) {
			if name != corev1.ResourcePods {
				dominant = max(dominant, share(amount, total.Get(name)))
			}
		})
		if dominant > largest {
			hole, largest = free, dominant
		}
	}
	return hole
}
