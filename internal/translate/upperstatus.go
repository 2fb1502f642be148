package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// UpperStatus returns the status of the upper pod as the lower pod's status tells it.
//
// A condition belongs above or below. What a kubelet or a lower controller writes comes from below. The upper
// PodScheduled stays as the upper scheduler wrote it, and the lower one travels as tessera.sh/LowerScheduled, so a
// pod that hangs below shows it above. Conditions that others set above (readiness gates, DisruptionTarget) stay.
//
// Addresses stay below: an address of another network in an EndpointSlice would send traffic to a stranger. The
// API server allows no change of the QoS class, and resource claims are those of the upper cluster.
func UpperStatus(upper *corev1.PodStatus, lower *corev1.Pod) corev1.PodStatus {
	status := *lower.Status.DeepCopy()
	status.NominatedNodeName = upper.NominatedNodeName
	status.HostIP, status.HostIPs = "", nil
	status.PodIP, status.PodIPs = "", nil
	status.QOSClass = upper.QOSClass
	status.ResourceClaimStatuses = upper.ResourceClaimStatuses
	status.ExtendedResourceClaimStatus = upper.ExtendedResourceClaimStatus
	status.ObservedGeneration = upper.ObservedGeneration
	status.Conditions = upperConditions(upper.Conditions, status.Conditions)
	return status
}

// upperConditions are those that come from below, then those that stay above.
func upperConditions(upper, lower []corev1.PodCondition) []corev1.PodCondition {
	var merged []corev1.PodCondition
	for _, c := range lower {
		c.ObservedGeneration = 0
		if c.Type == corev1.PodScheduled {
			c.Type = keys.LowerScheduled
		}
		if at := indexOf(upper, c.Type); at >= 0 {
			c.ObservedGeneration = upper[at].ObservedGeneration // Counts generations of the upper pod.
		}
		merged = append(merged, c)
	}
	for _, c := range upper {
		if indexOf(merged, c.Type) < 0 && !slices.Contains(belowOnly, c.Type) {
			merged = append(merged, c)
		}
	}
	return merged
}

// belowOnly are the conditions that nobody above sets: where the lower pod has none, the upper one has none.
var belowOnly = []corev1.PodConditionType{
	corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodReadyToStartContainers,
	corev1.PodResizePending, corev1.PodResizeInProgress, keys.LowerScheduled, keys.LowerCreated,
}

func indexOf(conditions []corev1.PodCondition, kind corev1.PodConditionType) int {
	return slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
}
