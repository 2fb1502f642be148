package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// UpperStatus returns the status of the upper pod as the lower pod's status tells it.
//
// What the lower kubelet says of containers, volumes, resources and resizes goes up; statuses of containers and volumes that
// the upper pod does not have (a lower webhook's) stay below. The API server allows no change of the QoS class, and resource
// claims are those of the upper cluster. Conditions and generations are explained at upperConditions and generations.
//
// Addresses of the pod and of its node go up with showAddresses alone, for networks in which they mean the same
// everywhere: an address of another network in an EndpointSlice would send traffic to a stranger.
func UpperStatus(upper, lower *corev1.Pod, showAddresses bool) corev1.PodStatus {
	status := *lower.Status.DeepCopy()
	status.NominatedNodeName = upper.Status.NominatedNodeName
	if !showAddresses {
		status.HostIP, status.HostIPs = "", nil
		status.PodIP, status.PodIPs = "", nil
	}
	status.QOSClass = upper.Status.QOSClass
	status.ResourceClaimStatuses = upper.Status.ResourceClaimStatuses
	status.ExtendedResourceClaimStatus = upper.Status.ExtendedResourceClaimStatus
	status.NodeAllocatableResourceClaimStatuses = upper.Status.NodeAllocatableResourceClaimStatuses
	status.InitContainerStatuses = known(status.InitContainerStatuses, upper.Spec.InitContainers)
	status.ContainerStatuses = known(status.ContainerStatuses, upper.Spec.Containers)
	status.VolumeHealth = slices.DeleteFunc(status.VolumeHealth, func(health corev1.PodVolumeHealth) bool {
		return !slices.ContainsFunc(upper.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == health.Name })
	})
	seen := generationsOf(upper, lower)
	status.ObservedGeneration = seen.upper(status.ObservedGeneration, upper.Status.ObservedGeneration)
	status.Conditions = upperConditions(upper, lower, seen)
	return status
}

// known are the statuses of those containers.
func known(statuses []corev1.ContainerStatus, containers []corev1.Container) []corev1.ContainerStatus {
	return slices.DeleteFunc(statuses, func(status corev1.ContainerStatus) bool {
		return !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == status.Name })
	})
}
