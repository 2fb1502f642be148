package mutate

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// KeepOff returns a pod that is not Tessera's and might tolerate virtual nodes with the demand for a node that is
// none; any other pod as it is. The argument is not changed.
//
// Invariant: for every node without the label tessera.sh/cluster, KeepOff(pod) fits exactly where pod fits.
func KeepOff(pod *corev1.Pod) *corev1.Pod {
	if translate.Marked(pod) || !mayTolerate(pod.Spec.Tolerations) {
		return pod
	}
	kept := pod.DeepCopy()
	demandReal(&kept.Spec)
	return kept
}

// KeepOffTemplate does the same in the template of a DaemonSet. The controller decides by the template where pods
// belong: with the demand in its pods alone it would make one for each virtual node and all of them would wait.
func KeepOffTemplate(set *appsv1.DaemonSet) *appsv1.DaemonSet {
	if !mayTolerate(set.Spec.Template.Spec.Tolerations) {
		return set
	}
	kept := set.DeepCopy()
	demandReal(&kept.Spec.Template.Spec)
	return kept
}

// mayTolerate reports whether some virtual node's taint is tolerated; its value is not known here. webhook.yaml
// asks the same in CEL.
func mayTolerate(tolerations []corev1.Toleration) bool {
	for _, t := range tolerations {
		key := t.Key == keys.VirtualTaint || t.Key == "" && t.Operator == corev1.TolerationOpExists
		if key && noSchedule(t) {
			return true
		}
	}
	return false
}

// demandReal adds seal.Real to every term of the required node affinity. Terms are alternatives, so one without it
// would be a way around. A term without any expression matches nothing and must stay so.
func demandReal(spec *corev1.PodSpec) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity := spec.Affinity.NodeAffinity
	if affinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{seal.Real}},
		}}
		return
	}
	terms := affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range terms {
		if !seal.MatchesNothing(terms[i]) && !demandsReal(terms[i]) {
			terms[i].MatchExpressions = append(terms[i].MatchExpressions, seal.Real)
		}
	}
}

func demandsReal(term corev1.NodeSelectorTerm) bool {
	for _, e := range term.MatchExpressions {
		if e.Key == seal.Real.Key && e.Operator == seal.Real.Operator {
			return true
		}
	}
	return false
}
