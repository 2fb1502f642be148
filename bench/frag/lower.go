package frag

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// lowerCluster is what is true below: which pod is on which node. Its scheduler is modelled after kube-scheduler's
// defaults: a hinted node first if it passes, else the node with the largest free share (LeastAllocated).
type lowerCluster struct {
	name    string
	nodes   []*lowerNode
	own     map[types.UID]*snapshot.LowerPod
	waiting []*pod // tried and found no node, oldest first
	// coming counts pods that are bound above and not yet tried here.
	coming int
	// dirty: something changed since the last published snapshot; grew: a pod has ended.
	dirty, grew bool
}

type lowerNode struct {
	object *corev1.Node
	pods   []*snapshot.LowerPod
	seen   *snapshot.Node // object and pods, in production terms
}

func newLowerCluster(name string, nodes []*corev1.Node) *lowerCluster {
	c := &lowerCluster{name: name, own: map[types.UID]*snapshot.LowerPod{}}
	for _, node := range nodes {
		c.nodes = append(c.nodes, &lowerNode{object: node, seen: snapshot.NewNode(node, nil)})
	}
	return c
}

// snapshot is what a watch of the cluster shows now.
func (c *lowerCluster) snapshot() *snapshot.Snapshot {
	nodes := make([]*snapshot.Node, 0, len(c.nodes))
	for _, node := range c.nodes {
		nodes = append(nodes, node.seen)
	}
	return snapshot.New(snapshot.Content{Cluster: c.name, Nodes: nodes, Own: maps.Clone(c.own), Pods: len(c.own)})
}

// takes reports whether some node has room for the pod.
func (c *lowerCluster) takes(p *pod) bool {
	return slices.ContainsFunc(c.nodes, func(n *lowerNode) bool { return n.takes(p) })
}

func (n *lowerNode) takes(p *pod) bool {
	_, ok := p.asked.Fits(n.seen, n.seen.Free())
	return ok
}

// choose is the lower scheduler: the node for the pod, or nil.
func (c *lowerCluster) choose(p *pod, hint string) *lowerNode {
	var best *lowerNode
	score := 0.0
	for _, node := range c.nodes {
		if !node.takes(p) {
			continue
		}
		if node.object.Name == hint {
			return node
		}
		if s := node.leastAllocated(p); best == nil || s > score {
			best, score = node, s
		}
	}
	return best
}

// leastAllocated is the mean free share of CPU and memory that the pod would leave, as NodeResourcesFit scores it.
func (n *lowerNode) leastAllocated(p *pod) float64 {
	free, all := n.seen.Free(), n.seen.Allocatable
	return (share(free.MilliCPU-p.asked.Requests.MilliCPU, all.MilliCPU) + share(free.Memory-p.asked.Requests.Memory, all.Memory)) / 2
}

func share(part, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return float64(part) / float64(of)
}

// put lets a pod run on a node.
func (c *lowerCluster) put(p *pod, node *lowerNode) {
	p.node = node
	p.below = &snapshot.LowerPod{Node: node.object.Name, Requests: p.asked.Requests, UpperUID: p.pod.UID, Hint: p.hint}
	c.own[p.pod.UID] = p.below
	node.pods = append(node.pods, p.below)
	node.seen = snapshot.NewNode(node.object, node.pods)
}

// remove ends a pod.
func (c *lowerCluster) remove(p *pod) {
	delete(c.own, p.pod.UID)
	p.node.pods = slices.DeleteFunc(p.node.pods, func(other *snapshot.LowerPod) bool { return other == p.below })
	p.node.seen = snapshot.NewNode(p.node.object, p.node.pods)
	p.node = nil
}
