package entry

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

// amounts reads "cpu=1,memory=1Gi"; nil for "".
func amounts(text string) corev1.ResourceList {
	if text == "" {
		return nil
	}
	list := corev1.ResourceList{}
	for pair := range strings.SplitSeq(text, ",") {
		name, amount, _ := strings.Cut(pair, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(amount)
	}
	return list
}

func requirements(requests, limits string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: amounts(requests), Limits: amounts(limits)}
}

func container(name, requests, limits string) corev1.Container {
	return corev1.Container{Name: name, Image: "image", Resources: requirements(requests, limits)}
}

func sidecar(name, requests, limits string) corev1.Container {
	c := container(name, requests, limits)
	c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	return c
}

// newPod returns a pod with one container.
func newPod(requests, limits string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{container("main", requests, limits)}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func withInit(containers ...corev1.Container) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers = containers }
}

func withMore(containers ...corev1.Container) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers = append(pod.Spec.Containers, containers...) }
}

func withPodLevel(requests, limits string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Resources = new(requirements(requests, limits)) }
}

// limitRange returns a LimitRange as an API server stores it, with the defaults that it derives.
func limitRange(name string, items ...corev1.LimitRangeItem) *corev1.LimitRange {
	limits := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}, Spec: corev1.LimitRangeSpec{Limits: items}}
	corev1defaults.SetObjectDefaults_LimitRange(limits)
	return limits
}

// quota returns a ResourceQuota whose status is filled.
func quota(name, hard, used string, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"},
		Spec:       corev1.ResourceQuotaSpec{Hard: amounts(hard), Scopes: scopes},
		Status:     corev1.ResourceQuotaStatus{Hard: amounts(hard), Used: amounts(used)},
	}
}
