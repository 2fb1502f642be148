package translate

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// OverClusters returns a lower pod that says nothing but this, of what the pod says about other pods over labels of virtual nodes
// (seal.Constraints.OverClusters): in the names that namespaces have below.
func OverClusters(pod *corev1.Pod, over seal.Constraints, target Target) *corev1.Pod {
	lower := &corev1.Pod{ObjectMeta: lowerMeta(pod, target)}
	over.Copy().Write(lower)
	resolveLabelKeys(&lower.Spec, lower.Labels)
	target.Rules.translateNamespaces(lower.Spec.Affinity)
	return lower
}

// DemandsOverClusters returns what a pod demands of other pods over all clusters, which LowerPod leaves out, in the form of OverClusters;
// in its node selector is what is asked of virtual nodes. nil where nothing is demanded; whole are the pod's constraints unsealed.
func DemandsOverClusters(pod *corev1.Pod, whole seal.Constraints, target Target) *corev1.Pod {
	demands := whole.OverClusters().Demands()
	if demands.Terms() == 0 {
		return nil
	}
	demands = demands.Copy()
	demands.NodeSelector = whole.Above(keys.PolicyOnly).NodeSelector
	for i := range demands.Spread {
		s := &demands.Spread[i]
		s.WhenUnsatisfiable = cmp.Or(s.WhenUnsatisfiable, corev1.DoNotSchedule)
	}
	return OverClusters(pod, demands, target)
}
