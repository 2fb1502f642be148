package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// UpperStatus returns the status of the upper pod as the lower pod's status tells it.
//
// The upper PodScheduled condition stays as the upper scheduler wrote it; the lower one travels as
// tessera.sh/LowerScheduled, so a pod that hangs below shows it above. Addresses stay below: an address of
// another network in an EndpointSlice would send traffic to a stranger.
func UpperStatus(upper *corev1.PodStatus, lower *corev1.Pod) corev1.PodStatus {
	status := *lower.Status.DeepCopy()
	status.NominatedNodeName = upper.NominatedNodeName
	status.HostIP, status.HostIPs = "", nil
	status.PodIP, status.PodIPs = "", nil
	status.ResourceClaimStatuses = nil
	status.ObservedGeneration = upper.ObservedGeneration
	status.Conditions = nil
	for _, c := range lower.Status.Conditions {
		c.ObservedGeneration = 0
		if c.Type == corev1.PodScheduled {
			c.Type = keys.LowerScheduled
		}
		status.Conditions = append(status.Conditions, c)
	}
	at := slices.IndexFunc(upper.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if at >= 0 {
		status.Conditions = append(status.Conditions, upper.Conditions[at])
	}
	return status
}
