package up

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// Reasons for which an upper pod fails although nobody above wanted it.
const (
	ReasonGone      = "LowerPodGone"  // somebody deleted it below
	ReasonEvicted   = "Evicted"       // it was evicted below: by the eviction API, for a taint, by its kubelet
	ReasonPreempted = "Preempted"     // it had to make room below
	ReasonNodeLost  = "LowerNodeLost" // its lower node is lost
)

// Ending is why a lower pod ended against the will of its owner above.
type Ending struct{ Reason, Message string }

// EndingOf reads it from the condition DisruptionTarget, which whoever ends a pod for a reason writes first.
func EndingOf(cluster string, conditions []corev1.PodCondition) Ending {
	for _, c := range conditions {
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		message := strings.TrimSuffix("In cluster "+cluster+": "+c.Message, ": ")
		switch c.Reason {
		case corev1.PodReasonPreemptionByScheduler:
			return Ending{ReasonPreempted, message}
		case "DeletionByPodGC":
			return Ending{ReasonNodeLost, message}
		default:
			return Ending{ReasonEvicted, message}
		}
	}
	return Ending{ReasonGone, "The pod was deleted in the lower cluster " + cluster}
}

// ended reports whether a lower pod was ended by somebody below: it has finished while it is being deleted there, and not
// above. Containers that obey leave with exit code 0, and for a pod that should run for ever Succeeded is the wrong word.
func ended(upper, lower *corev1.Pod) bool {
	if lower.DeletionTimestamp == nil || upper.DeletionTimestamp != nil || !snapshot.Finished(lower) {
		return false
	}
	return lower.Status.Phase == corev1.PodFailed || upper.Spec.RestartPolicy == corev1.RestartPolicyAlways
}

// WithDisruption adds the condition DisruptionTarget to a pod that has failed: a Job's podFailurePolicy looks for it.
func WithDisruption(pod *corev1.Pod, from []corev1.PodCondition) *corev1.Pod {
	if pair.Condition(pod, corev1.DisruptionTarget) != nil {
		return pod
	}
	for _, c := range from {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			c.ObservedGeneration = 0 // Counts generations of the lower pod.
			pod.Status.Conditions = append(pod.Status.Conditions, c)
		}
	}
	return pod
}
