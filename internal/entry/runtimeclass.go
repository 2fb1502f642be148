package entry

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
)

// WithRuntimeClass returns the pod as the admission plugin RuntimeClass leaves it: with the overhead of the class, and only where
// the class may run. It shares with pod what the class does not change, so the caller changes neither. The error is the pod's own
// node selector, where it contradicts that of the class.
func WithRuntimeClass(pod *corev1.Pod, class *nodev1.RuntimeClass) (*corev1.Pod, error) {
	with := *pod
	if class.Overhead != nil {
		with.Spec.Overhead = class.Overhead.PodFixed
	}
	if class.Scheduling == nil {
		return &with, nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if own, set := pod.Spec.NodeSelector[key]; set && own != value {
			return nil, fmt.Errorf("runtime class %s runs on nodes with %s=%s, the pod asks for %s=%s", class.Name, key, value, key, own)
		}
	}
	selector := map[string]string{}
	maps.Copy(selector, pod.Spec.NodeSelector)
	maps.Copy(selector, class.Scheduling.NodeSelector)
	with.Spec.NodeSelector = selector
	with.Spec.Tolerations = append(slices.Clone(pod.Spec.Tolerations), class.Scheduling.Tolerations...)
	return &with, nil
}
