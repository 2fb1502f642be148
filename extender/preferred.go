package extender

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// aboveOf is what a pod prefers of clusters, as it comes through a virtual node, but for what it says of other pods.
func aboveOf(whole seal.Constraints, node *corev1.Node) snapshot.Above {
	return snapshot.Above{Labels: node.Labels, Nodes: whole.PreferredAbove(node.Labels)}
}

// preferAbove has a pod, reduced to what it will be below, prefer clusters as the upper pod does.
func preferAbove(reduced *snapshot.Pod, pod *corev1.Pod, target translate.Target, node *corev1.Node) error {
	whole, err := seal.Unseal(pod)
	if err != nil {
		return err
	}
	reduced.Above = aboveOf(whole, node)
	over := whole.OverClusters()
	if over.Empty() {
		return nil
	}
	reduced.Prefer(translate.OverClusters(pod, over, target))
	return nil
}

// weigh lets the pod's preferences decide, over all clusters.
func weigh(verdicts []verdict) {
	all := make([]*snapshot.Verdict, len(verdicts))
	for i := range verdicts {
		all[i] = &verdicts[i].Verdict
	}
	snapshot.Weigh(all)
}
