package entry

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"
)

// Limit returns the pod as the LimitRanges of its namespace leave it: with their default requests and limits in the
// containers that have none. It is pod itself where nothing is added, and otherwise shares with pod all that is not a
// container's resources, so the caller changes neither. The annotation in which the API server notes what it added is left
// out: it has no word in where the pod fits.
//
// The error says, in the API server's words, which bound the pod breaks, or that a default makes it invalid (a default limit
// below the pod's own request). Where the defaults of two LimitRanges differ, the API server takes those of either; Limit
// takes those of the first by name.
func Limit(pod *corev1.Pod, ranges []*corev1.LimitRange) (*corev1.Pod, error) {
	if len(ranges) == 0 {
		return pod, nil
	}
	ranges = byName(ranges)
	bare := bareOf(pod)
	for _, limits := range ranges {
		if err := limitranger.PodMutateLimitFunc(limits, bare); err != nil {
			return nil, forbidden(pod, err)
		}
	}
	limited := pod
	if len(bare.Annotations) > 0 { // The API server's code notes there what it added.
		if wrong := invalidResources(bare); len(wrong) > 0 {
			return nil, apierrors.NewInvalid(core.Kind("Pod"), pod.Name, wrong)
		}
		limited = withResources(pod, bare)
	}
	for _, limits := range ranges {
		if err := limitranger.PodValidateLimitFunc(limits, bare); err != nil {
			return nil, forbidden(pod, err)
		}
	}
	return limited, nil
}

func forbidden(pod *corev1.Pod, err error) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod.Name, err)
}

// bareOf returns what LimitRanges look at, in the form their code wants it: containers and their resources, nothing else. So
// nothing else can change, and no conversion of a whole pod has to be paid for.
func bareOf(pod *corev1.Pod) *core.Pod {
	bare := &core.Pod{Spec: core.PodSpec{
		Containers:     bareContainers(pod.Spec.Containers),
		InitContainers: bareContainers(pod.Spec.InitContainers),
	}}
	if pod.Spec.Resources != nil {
		resources := bareResources(*pod.Spec.Resources)
		bare.Spec.Resources = &resources
	}
	return bare
}

func bareContainers(containers []corev1.Container) []core.Container {
	bare := make([]core.Container, len(containers))
	for i, container := range containers {
		bare[i] = core.Container{
			Name:          container.Name,
			RestartPolicy: (*core.ContainerRestartPolicy)(container.RestartPolicy),
			Resources:     bareResources(container.Resources),
		}
	}
	return bare
}

func bareResources(resources corev1.ResourceRequirements) core.ResourceRequirements {
	return core.ResourceRequirements{
		Requests: listOf[core.ResourceName](resources.Requests),
		Limits:   listOf[core.ResourceName](resources.Limits),
	}
}

// listOf returns a copy of a resource list for the other of Kubernetes' two types of resource names; nil for an empty one.
func listOf[To, From ~string](list map[From]resource.Quantity) map[To]resource.Quantity {
	if len(list) == 0 {
		return nil
	}
	copied := make(map[To]resource.Quantity, len(list))
	for name, quantity := range list {
		copied[To(name)] = quantity.DeepCopy()
	}
	return copied
}

// withResources returns pod with the resources of the bare pod's containers.
func withResources(pod *corev1.Pod, bare *core.Pod) *corev1.Pod {
	changed := *pod
	changed.Spec.Containers = containersWith(pod.Spec.Containers, bare.Spec.Containers)
	changed.Spec.InitContainers = containersWith(pod.Spec.InitContainers, bare.Spec.InitContainers)
	return &changed
}

func containersWith(containers []corev1.Container, bare []core.Container) []corev1.Container {
	changed := slices.Clone(containers)
	for i := range changed {
		changed[i].Resources.Requests = listOf[corev1.ResourceName](bare[i].Resources.Requests)
		changed[i].Resources.Limits = listOf[corev1.ResourceName](bare[i].Resources.Limits)
	}
	return changed
}

// invalidResources returns what the API server has against the resources of a pod after the defaults and before the bounds.
// Its complaints about the rest, which a bare pod does not have, are not ours.
func invalidResources(bare *core.Pod) field.ErrorList {
	options := validation.PodValidationOptions{PodLevelResourcesEnabled: true}
	wrong := validation.ValidatePodSpec(&bare.Spec, &bare.ObjectMeta, field.NewPath("spec"), options)
	return slices.DeleteFunc(wrong, func(err *field.Error) bool { return !strings.Contains(err.Field, ".resources") })
}
