package oracle

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"maps"
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
	class     [sha256.Size]byte // equal for nodes that no pod can tell apart but by name and by what is on them
	apart     []*term           // of the pods here that keep others away
	portsUsed []port
}

// NewNode builds a node from what the API server says of it and the pods bound to it.
func NewNode(node *corev1.Node, pods []*LowerPod) *Node {
	n := &Node{Object: TrimNode(node), Allocatable: FromList(node.Status.Allocatable), Leaving: leaving(node)}
	n.Ready = slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	for _, pod := range pods {
		if pod.Finished {
			continue
		}
		n.Used = n.Used.Plus(pod.Requests)
		n.Pods = append(n.Pods, pod)
		for i := range pod.apart {
			n.apart = append(n.apart, &pod.apart[i])
		}
		n.portsUsed = append(n.portsUsed, pod.ports...)
	}
	n.free = n.Allocatable.Minus(n.Used)
	n.class = n.classify()
	return n
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

// classify names the class of the node. JSON has maps in order, so that equal nodes give equal texts.
func (n *Node) classify() [sha256.Size]byte {
	shared := maps.Clone(n.Object.Labels)
	delete(shared, corev1.LabelHostname)
	spec, features := &n.Object.Spec, n.Object.Status.DeclaredFeatures
	text, err := json.Marshal([]any{n.Ready, n.Leaving, spec.Unschedulable, spec.Taints, shared, features})
	if err != nil { // Strings and booleans always marshal; a class of its own is right in any case.
		text = []byte(n.Name())
	}
	return sha256.Sum256(text)
}

// Name is the node's name.
func (n *Node) Name() string { return n.Object.Name }

// Usable reports whether new pods may come to the node at all.
func (n *Node) Usable() bool { return n.Ready && !n.Leaving && !n.Object.Spec.Unschedulable }

// Free = Allocatable - Used; negative where a node has shrunk under its pods.
func (n *Node) Free() Resources { return n.free }

func compareNodes(a, b *Node) int { return cmp.Compare(a.Name(), b.Name()) }
