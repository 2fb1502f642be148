package pods

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Reasons for which an upper pod fails although nobody above wanted it.
const (
	reasonGone      = "LowerPodGone"  // somebody deleted it below
	reasonEvicted   = "Evicted"       // it was evicted below: by the eviction API, for a taint, by its kubelet
	reasonPreempted = "Preempted"     // it had to make room below
	reasonNodeLost  = "LowerNodeLost" // its lower node is lost
)

// ending is why a lower pod ended against the will of its owner above.
type ending struct{ reason, message string }

// endingOf reads it from the condition DisruptionTarget, which whoever ends a pod for a reason writes first.
func endingOf(cluster string, conditions []corev1.PodCondition) ending {
	for _, c := range conditions {
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		message := strings.TrimSuffix("In cluster "+cluster+": "+c.Message, ": ")
		switch c.Reason {
		case corev1.PodReasonPreemptionByScheduler:
			return ending{reasonPreempted, message}
		case "DeletionByPodGC":
			return ending{reasonNodeLost, message}
		default:
			return ending{reasonEvicted, message}
		}
	}
	return ending{reasonGone, "The pod was deleted in the lower cluster " + cluster}
}

// ended reports whether a lower pod was ended by somebody below: it has finished while it is being deleted there, and not
// above. Containers that obey leave with exit code 0, and for a pod that should run for ever Succeeded is the wrong word.
func ended(upper, lower *corev1.Pod) bool {
	if lower.DeletionTimestamp == nil || upper.DeletionTimestamp != nil || !snapshot.Finished(lower) {
		return false
	}
	return lower.Status.Phase == corev1.PodFailed || upper.Spec.RestartPolicy == corev1.RestartPolicyAlways
}

// Gone notes how a lower pod was when it went. Why it ended stands in its last status, which no cache has any more when
// its turn comes. Losing the note costs a reason, not more.
func (r *Reconciler) Gone(lower *corev1.Pod) {
	if endingOf(r.Name, lower.Status.Conditions).reason == reasonGone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[UpperKey(lower)] = lower
}

// lastOf is the noted status of the lower pod that stood for upper, nil if there is none.
func (r *Reconciler) lastOf(upper *corev1.Pod) []corev1.PodCondition {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.last[KeyOf(upper)]; last != nil && upperUID(last) == upper.UID {
		return last.Status.Conditions
	}
	return upper.Status.Conditions
}

// withDisruption adds the condition DisruptionTarget to a pod that has failed: a Job's podFailurePolicy looks for it.
func withDisruption(pod *corev1.Pod, from []corev1.PodCondition) *corev1.Pod {
	if condition(pod, corev1.DisruptionTarget) != nil {
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
