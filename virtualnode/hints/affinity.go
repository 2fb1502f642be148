package hints

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hintWeight is the most that one preferred term can weigh.
const hintWeight = 100

// addToAffinity puts the hint into the pod's node affinity, beside what the user asked for. The modes that tell it otherwise
// leave the pod as it is. What the affinity points to may belong to a cache, so it is replaced and not written to.
func addToAffinity(spec *corev1.PodSpec, mode Mode, node string) {
	if mode != Preferred && mode != Required {
		return
	}
	affinity := spec.Affinity.DeepCopy()
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.NodeAffinity == nil {
		affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity = affinity
	if mode == Preferred {
		prefer(affinity.NodeAffinity, node)
	} else {
		require(affinity.NodeAffinity, node)
	}
}

// prefer adds a preference to those of the user.
func prefer(affinity *corev1.NodeAffinity, node string) {
	affinity.PreferredDuringSchedulingIgnoredDuringExecution = append(affinity.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.PreferredSchedulingTerm{Weight: hintWeight, Preference: corev1.NodeSelectorTerm{MatchFields: named(node)}})
}

// require narrows the user's demands to the node: every term of theirs, since one that matches is enough. Where a
// term excludes the node the pod stays pending, as it must. A term that demands nothing matches no node, and would
// match this one if the demand were added to it: it stays as it is.
func require(affinity *corev1.NodeAffinity, node string) {
	required := affinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: named(node)}},
		}
		return
	}
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		if len(term.MatchExpressions)+len(term.MatchFields) > 0 {
			term.MatchFields = append(term.MatchFields, named(node)...)
		}
	}
}

// named is met by the node of that name alone; a node's hostname label may be something else.
func named(node string) []corev1.NodeSelectorRequirement {
	return []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}
}
