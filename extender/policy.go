package extender

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// sortVerdicts puts the best first: those that fit, by the order of clusters that the pod asks for, then the most preferred,
// then the tightest, then by name.
func sortVerdicts(verdicts []verdict) {
	slices.SortFunc(verdicts, func(a, b verdict) int {
		if a.Fits && b.Fits && a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		return cmp.Or(snapshot.Tighter(a.Verdict, b.Verdict), cmp.Compare(a.node.Name, b.node.Name))
	})
}

// fenced reports whether the pod's namespace keeps its pods off a virtual node. A namespace that is not known has just been made:
// virtualnode looks again before it creates a pod.
func (u *upper) fenced(namespace string, node *corev1.Node) bool {
	object, known, _ := u.namespaces.GetStore().GetByKey(namespace)
	if !known {
		return false
	}
	fence, _ := seal.Fence(object.(*corev1.Namespace)) // One that cannot be read keeps all pods in.
	return !fence.Matches(labels.Set(node.Labels))
}

// trimNamespace keeps what fences its pods in.
func trimNamespace(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Namespace{}
	trimmed.Name, trimmed.UID, trimmed.ResourceVersion = namespace.Name, namespace.UID, namespace.ResourceVersion
	if text, fenced := namespace.Annotations[keys.Clusters]; fenced {
		trimmed.Annotations = map[string]string{keys.Clusters: text}
	}
	return trimmed, nil
}

// fencedOff reports whether the namespace of a pod that room is asked for keeps it off the cluster.
func (e *Extender) fencedOff(r *wire.HoldRequest) bool {
	node := e.upper.virtualNode(e.virtualNodeOf(r.Cluster))
	return r.Pod != nil && node != nil && e.upper.fenced(r.Pod.Namespace, node)
}
