package oracle

import (
	"crypto/sha256"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Snapshot is one lower cluster at one moment. Immutable but for what it remembers of questions: not for two at a time.
type Snapshot struct {
	Cluster string
	// Nodes in order of their names.
	Nodes []*Node
	// Own holds the pods of our upper cluster by the UID of the upper pod, finished ones too.
	Own map[types.UID]*LowerPod
	// Pods counts the unfinished pods of the cluster.
	Pods int

	waiting    []*LowerPod
	names      names   // that are taken
	through    names   // those of ours, each with its virtual node
	reserve    Reserve // of the part that this is
	namespaces Namespaces
	version    Version
	devices    map[corev1.ResourceName]bool
	index      map[string]int
	classes    []int // of each node
	ofClass    []int // a node of each class
	free       columns
	largest    Resources // of each resource, the most that any node can give
	hasApart   bool
	shy        []shy                // made at the first need
	topologies map[string]*topology // the same
	parts      map[string]*participants
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
	// Namespaces has the labels of the namespaces that exist; nil where nobody looks at them.
	Namespaces Namespaces
	// Version is that of the cluster's scheduler.
	Version Version
	// Devices are the extended resources that a device class of the cluster can give (DRAExtendedResource).
	Devices map[corev1.ResourceName]bool

	taken, through []uint64 // hashes of names
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
	if pod.UpperUID == "" {
		c.taken = append(c.taken, pod.name)
		return
	}
	if !pod.terminating {
		c.taken = append(c.taken, pod.name)
		c.through = append(c.through, through(pod.name, pod.labels[keys.VirtualNode]))
	}
	if before := c.Own[pod.UpperUID]; before == nil || before.Node == "" {
		c.Own[pod.UpperUID] = pod
	}
}

// New builds a snapshot.
func New(content Content) *Snapshot {
	nodes := content.Nodes
	slices.SortFunc(nodes, compareNodes)
	s := &Snapshot{
		Cluster: content.Cluster, Nodes: nodes, Own: content.Own, Pods: content.Pods, waiting: content.Waiting,
		namespaces: content.Namespaces, version: content.Version, devices: content.Devices,
		names: newNames(content.taken), through: newNames(content.through),
		topologies: map[string]*topology{}, parts: map[string]*participants{},
		index: make(map[string]int, len(nodes)), classes: make([]int, len(nodes)), free: newColumns(nodes),
	}
	classes := map[[sha256.Size]byte]int{}
	for i, node := range nodes {
		s.index[node.Name()] = i
		s.largest = s.largest.Max(node.Allocatable)
		s.hasApart = s.hasApart || len(node.apart) > 0
		class, known := classes[node.class]
		if !known {
			class = len(s.ofClass)
			classes[node.class] = class
			s.ofClass = append(s.ofClass, i)
		}
		s.classes[i] = class
	}
	return s
}

// Of builds a snapshot from whole lists, as a test or a simulation has them.
func Of(cluster string, nodes []*corev1.Node, pods []*LowerPod, namespaces Namespaces) *Snapshot {
	content := Content{Cluster: cluster, Own: map[types.UID]*LowerPod{}, Namespaces: namespaces}
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
