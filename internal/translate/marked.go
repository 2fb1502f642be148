package translate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Marked reports whether a pod is Tessera's: some container or init container names the resource that marks it, among its
// requests or its limits. That is how kube-scheduler decides whether to call an extender that manages the resource, so
// whoever asks answers as it does; internal/exact compares the two. The webhook asks the same in CEL (webhook.yaml).
func Marked(pod *corev1.Pod) bool {
	return namesMarker(pod.Spec.Containers) || namesMarker(pod.Spec.InitContainers)
}

func namesMarker(containers []corev1.Container) bool {
	for i := range containers {
		resources := &containers[i].Resources
		if _, requested := resources.Requests[keys.PodResource]; requested {
			return true
		}
		if _, limited := resources.Limits[keys.PodResource]; limited {
			return true
		}
	}
	return false
}

// OfDaemonSet reports whether the pod's controller is a DaemonSet, which pins it to one node. The kind alone counts, as for
// kubectl drain: apps/v1 is Kubernetes' own, and those of other groups that extend it pin their pods as well.
func OfDaemonSet(pod *corev1.Pod) bool {
	controller := metav1.GetControllerOfNoCopy(pod)
	return controller != nil && controller.Kind == "DaemonSet"
}
