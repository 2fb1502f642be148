package pair

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Condition is the pod's condition of a type, nil if it has none.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	at := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if at < 0 {
		return nil
	}
	return &pod.Status.Conditions[at]
}

// SetCondition returns the conditions with that one in place of those of its type. The given list is not changed.
func SetCondition(conditions []corev1.PodCondition, c corev1.PodCondition) []corev1.PodCondition {
	others := slices.DeleteFunc(slices.Clone(conditions), func(other corev1.PodCondition) bool { return other.Type == c.Type })
	return append(others, c)
}

// The conditions of a pod's readiness gates may be set above or below: above by a load balancer's controller, say, and only
// the lower kubelet can then say that the pod is Ready. Whoever sets one notes when it changed, and copies keep that time. So
// the newer one of the two goes to the other side, and nothing needs to be remembered.

// GateOf returns the condition of a readiness gate that counts, nil if there is none, and whether it is the upper pod's.
func GateOf(upper, lower *corev1.Pod, kind corev1.PodConditionType) (counts *corev1.PodCondition, fromAbove bool) {
	above, below := Condition(upper, kind), Condition(lower, kind)
	if above == nil || (below != nil && above.LastTransitionTime.Before(&below.LastTransitionTime)) {
		return below, false
	}
	return above, true
}
