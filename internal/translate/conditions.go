package translate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// reasonTerminating is the reason of Ready=False for a pod that is being deleted below and not above.
const reasonTerminating = "LowerPodTerminating"

// upperConditions are those that come from below, then those that stay above.
//
// A condition belongs above or below. What a kubelet or a lower controller writes comes from below. The upper PodScheduled
// stays as the upper scheduler wrote it, and the lower one travels as tessera.sh/LowerScheduled, so a pod that hangs below
// shows it above. Readiness gates that are set above stay. DisruptionTarget may come from either side: a Job's
// podFailurePolicy has to see that the lower cluster preempted or evicted the pod. Conditions of others stay.
func upperConditions(upper, lower *corev1.Pod, seen generations) []corev1.PodCondition {
	var merged []corev1.PodCondition
	for _, c := range lower.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			c.Type = keys.LowerScheduled
		}
		before := corev1.PodCondition{}
		if at := indexOf(upper.Status.Conditions, c.Type); at >= 0 {
			before = upper.Status.Conditions[at]
			if ownedAbove(upper, before) {
				continue
			}
		}
		c.ObservedGeneration = seen.upper(c.ObservedGeneration, before.ObservedGeneration)
		merged = append(merged, unready(c, upper, lower))
	}
	for _, c := range upper.Status.Conditions {
		if indexOf(merged, c.Type) < 0 && !slices.Contains(belowOnly, c.Type) {
			merged = append(merged, c)
		}
	}
	return merged
}

// ownedAbove reports whether a condition that the upper pod has is left alone by the lower one.
func ownedAbove(upper *corev1.Pod, c corev1.PodCondition) bool {
	if c.Type == corev1.DisruptionTarget {
		return c.Status == corev1.ConditionTrue
	}
	return slices.ContainsFunc(upper.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == c.Type })
}

// unready takes readiness from a pod that is being deleted below alone: below it gets no traffic any more, and above its
// address would stay in EndpointSlices.
func unready(c corev1.PodCondition, upper, lower *corev1.Pod) corev1.PodCondition {
	readiness := c.Type == corev1.PodReady || c.Type == corev1.ContainersReady
	if !readiness || c.Status != corev1.ConditionTrue || lower.DeletionTimestamp == nil || upper.DeletionTimestamp != nil {
		return c
	}
	c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonTerminating, "The pod is being deleted in its lower cluster"
	c.LastTransitionTime = deletionAsked(lower)
	return c
}

// deletionAsked is when the deletion of a pod was asked for: its timestamp is when the grace ends.
func deletionAsked(pod *corev1.Pod) metav1.Time {
	var grace int64
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	return metav1.NewTime(pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second))
}

// belowOnly are the conditions that nobody above sets: where the lower pod has none, the upper one has none.
var belowOnly = []corev1.PodConditionType{
	corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodReadyToStartContainers,
	corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting, keys.LowerScheduled, keys.LowerPlaced,
}

func indexOf(conditions []corev1.PodCondition, kind corev1.PodConditionType) int {
	return slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
}
