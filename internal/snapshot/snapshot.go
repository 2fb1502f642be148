package snapshot

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Snapshot is one lower cluster at one moment. Immutable.
type Snapshot struct {
	Cluster string
	// Nodes in order of their names.
	Nodes []*Node
	// Own holds the pods of our upper cluster by the UID of the upper pod, finished ones too.
	Own map[types.UID]*LowerPod
	// Pods counts the unfinished pods of the cluster.
	Pods int

	waiting []*LowerPod
	names   []uint64 // hashes of those that are taken, and of those of ours with their virtual nodes
	around  Surroundings
	reserve Reserve // of the part that this is
	index   map[string]int
}

// Content is what a snapshot is made of. The snapshot owns it from then on.
type Content struct {
	Cluster string
	Nodes   []*Node
	// Own and Pods are those of Snapshot.
	Own  map[types.UID]*LowerPod
	Pods int
	// Waiting are the unfinished pods that have no node yet, whoever's they are.
	Waiting []*LowerPod
	Surroundings

	names []uint64
}

// Add takes a pod into what a snapshot knows of the cluster as a whole. Its name is taken as long as it exists, but for
// one of ours that is about to go: whoever is to come after it waits for that.
func (c *Content) Add(pod *LowerPod) {
	if !pod.Finished {
		c.Pods++
		if pod.Node == "" {
			c.Waiting = append(c.Waiting, pod)
		}
	}
	c.names = append(c.names, pod.names()...)
	if pod.UpperUID == "" {
		return
	}
	if before := c.Own[pod.UpperUID]; before == nil || before.Node == "" {
		c.Own[pod.UpperUID] = pod
	}
}

// New builds a snapshot.
func New(content Content) *Snapshot {
	slices.SortFunc(content.Nodes, compareNodes)
	s := &Snapshot{
		Cluster: content.Cluster, Nodes: content.Nodes, Own: content.Own, Pods: content.Pods, waiting: content.Waiting,
		names: content.names, around: content.Surroundings, index: make(map[string]int, len(content.Nodes)),
	}
	for i, node := range s.Nodes {
		s.index[node.Name()] = i
	}
	return s
}

// Of builds a snapshot from whole lists, as a test or a simulation has them.
func Of(cluster string, nodes []*corev1.Node, pods []*LowerPod, namespaces Namespaces) *Snapshot {
	content := Content{Cluster: cluster, Own: map[types.UID]*LowerPod{}, Surroundings: Surroundings{Namespaces: namespaces}}
	byNode := map[string][]*LowerPod{}
	for _, pod := range pods {
		content.Add(pod)
		byNode[pod.Node] = append(byNode[pod.Node], pod)
	}
	for _, node := range nodes {
		content.Nodes = append(content.Nodes, NewNode(node, byNode[node.Name]))
	}
	return New(content)
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
//	advertised[r] = own[r] + max(0, sum over usable nodes of max(0, free[r]) - reserve[r]) + largest node's allocatable[r]
//
// A pod that fits on a node asks for no more than the last term, so the reserve (of Select) takes nothing from that. That of nodes
// which are not usable counts as well: where all are cordoned, the upper scheduler's filter would refuse a pod otherwise, and it
// would end others of lower priority to make room for it. own is
// what the upper scheduler charges the virtual node for: the requests of our own unfinished upper pods on it. Every resource
// that any node of the cluster lists is in it, so that none looks unknown above.
func (s *Snapshot) Advertised(own Resources) Resources {
	return own.Plus(s.spare()).Plus(s.Largest())
}

// Largest is the most that any node can give of each resource, usable or not.
func (s *Snapshot) Largest() Resources {
	var largest Resources
	for _, node := range s.Nodes {
		largest = largest.Max(node.Allocatable)
	}
	return largest
}

// spare is what is free beside the reserve.
func (s *Snapshot) spare() Resources {
	free, capacity := s.Free(), s.Capacity()
	spare := free
	spare.Scalars = maps.Clone(free.Scalars)
	free.Each(func(name corev1.ResourceName, amount int64) {
		spare.set(name, max(0, amount-s.reserve.of(name, capacity.Get(name))))
	})
	return spare
}

// LargestHole is what is free on the usable node with the largest dominant share.
func (s *Snapshot) LargestHole() Resources {
	var free []Resources
	for _, node := range s.Nodes {
		if node.Usable() {
			free = append(free, node.Free().Positive())
		}
	}
	return LargestHole(free)
}
