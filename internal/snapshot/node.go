package snapshot

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Node is one lower node as it was seen. Immutable, so that snapshots share the nodes that have not changed.
type Node struct {
	// Object holds metadata.name, labels, taints, unschedulable and the declared features; nothing else is kept.
	Object *corev1.Node
	Ready  bool
	// Leaving: the node is being deleted, or an autoscaler is about to.
	Leaving bool
	// Allocatable and Used: Used is the plain sum of the requests of the unfinished pods on the node.
	Allocatable, Used Resources
	// Pods are the unfinished pods on the node.
	Pods []*LowerPod

	free      Resources
	kind      string  // equal for nodes that no pod can tell apart but by labels, by name and by what is on them
	apart     []*term // of the pods here that keep others away
	draws     []*term // of the pods here that draw others
	unsaid    unsaid  // of the pods here
	portsUsed []port
}

// NewNode builds a node from what the API server says of it and the pods bound to it.
func NewNode(node *corev1.Node, pods []*LowerPod) *Node {
	return newNode(node, TrimNode(node), pods)
}

func newNode(node, object *corev1.Node, pods []*LowerPod) *Node {
	n := &Node{Object: object, Allocatable: FromList(node.Status.Allocatable), Leaving: leaving(node)}
	n.Ready = ready(node)
	n.kind = kindOf(n)
	n.take(pods)
	return n
}

// With returns the node with other pods on it.
func (n *Node) With(pods []*LowerPod) *Node {
	other := &Node{Object: n.Object, Ready: n.Ready, Leaving: n.Leaving, Allocatable: n.Allocatable, kind: n.kind}
	other.take(pods)
	return other
}

func (n *Node) take(pods []*LowerPod) {
	for _, pod := range pods {
		if pod.Finished {
			continue
		}
		n.Used = n.Used.Plus(pod.Requests)
		n.Pods = append(n.Pods, pod)
		for i := range pod.apart {
			n.apart = append(n.apart, &pod.apart[i])
		}
		for i := range pod.draws {
			n.draws = append(n.draws, &pod.draws[i])
		}
		n.unsaid = n.unsaid.plus(pod.unsaid)
		n.portsUsed = append(n.portsUsed, pod.ports...)
	}
	n.free = n.Allocatable.Minus(n.Used)
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// removal are the taints by which autoscalers say that they are about to remove a node (cluster-autoscaler and Karpenter).
var removal = []string{"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption"}

func leaving(node *corev1.Node) bool {
	marked := func(t corev1.Taint) bool { return slices.Contains(removal, t.Key) }
	return node.DeletionTimestamp != nil || slices.ContainsFunc(node.Spec.Taints, marked)
}

// TrimNode keeps what fit looks at.
func TrimNode(node *corev1.Node) *corev1.Node {
	trimmed := &corev1.Node{
		Spec:   corev1.NodeSpec{Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable},
		Status: corev1.NodeStatus{DeclaredFeatures: node.Status.DeclaredFeatures},
	}
	trimmed.Name, trimmed.Labels, trimmed.DeletionTimestamp = node.Name, node.Labels, node.DeletionTimestamp
	return trimmed
}

// Name is the node's name.
func (n *Node) Name() string { return n.Object.Name }

// Usable reports whether new pods may come to the node at all.
func (n *Node) Usable() bool { return n.Ready && !n.Leaving && !n.Object.Spec.Unschedulable }

// Free = Allocatable - Used; negative where a node has shrunk under its pods.
func (n *Node) Free() Resources { return n.free }

func compareNodes(a, b *Node) int { return cmp.Compare(a.Name(), b.Name()) }
