package wire

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// mostText is the most of any one resource that a pod may ask for, in bytes or whole units: more than any node has, and little
// enough that no sum of what a pod is charged for overflows.
const mostText = "1Pi"

// most is mostText to compare with. It is never printed: a Quantity remembers its text, and requests come side by side.
var most = resource.MustParse(mostText)

// checkAmounts refuses a pod that no API server would store or that no arithmetic bears: kube-scheduler's own, in 64 bits,
// takes 1e18 CPUs for none. All requests of a resource together stay within bounds.
func checkAmounts(pod *corev1.Pod) error {
	sums := sums{}
	if err := sums.add("the overhead", pod.Spec.Overhead); err != nil {
		return err
	}
	if resources := pod.Spec.Resources; resources != nil {
		if err := sums.addAll("the pod", *resources); err != nil {
			return err
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if err := sums.addAll(fmt.Sprintf("container %q", containers[i].Name), containers[i].Resources); err != nil {
				return err
			}
		}
	}
	return nil
}

// sums are what a pod has asked for so far.
type sums map[corev1.ResourceName]resource.Quantity

func (s sums) addAll(where string, resources corev1.ResourceRequirements) error {
	for name, amount := range resources.Limits {
		if amount.Sign() < 0 {
			return fmt.Errorf("limits: %s: %s of %s is negative", where, amount.String(), name)
		}
	}
	return s.add(where, resources.Requests)
}

// add adds a list of requests. The sum is as exact as what it is made of.
func (s sums) add(where string, list corev1.ResourceList) error {
	for name, amount := range list {
		sum := s[name]
		sum.Add(amount)
		switch {
		case amount.Sign() < 0:
			return fmt.Errorf("requests: %s: %s of %s is not within 0 and %s", where, amount.String(), name, mostText)
		case sum.Cmp(most) > 0:
			return fmt.Errorf("requests: %s: %s of %s in all is not within 0 and %s", where, sum.String(), name, mostText)
		}
		s[name] = sum
	}
	return nil
}
