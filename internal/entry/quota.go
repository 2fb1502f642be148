package entry

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	quotav1 "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
)

// Quota checks whether the ResourceQuotas of a namespace leave room for pod, beside the pods of that namespace that are on
// their way there: promised and not created yet. Each of those is charged, also one that would be refused by itself, so that
// a pod that passes is admitted whatever the order in which they arrive. A quota counts a pod from its creation on, so the
// caller leaves a pod out of onTheirWay as soon as it sees it below; until then it counts twice.
//
// The error says, in the API server's words, what is exceeded, what the pod lacks (a quota on limits.cpu wants one in every
// container), or that the usage of a quota is not known yet. As for the API server, a quota counts once its status.hard is
// filled, and only what the pod adds to is looked at. Quota changes nothing that it is given.
func Quota(pod *corev1.Pod, onTheirWay []*corev1.Pod, quotas []*corev1.ResourceQuota) error {
	if len(quotas) == 0 {
		return nil
	}
	pods := core.NewPodEvaluator(nil, nil) // The clock is for pods that are being deleted: created takes care of it.
	charged := make([]corev1.ResourceQuota, 0, len(quotas))
	for _, quota := range byName(quotas) {
		charged = append(charged, *quota)
	}
	for _, other := range onTheirWay {
		if err := charge(charged, created(other), pods); err != nil {
			return fmt.Errorf("charging pod %s/%s on its way: %w", other.Namespace, other.Name, err)
		}
	}
	_, err := resourcequota.CheckRequest(charged, creationOf(created(pod)), pods, nil)
	return err
}

// charge adds what pod uses to the used amounts of the quotas that count it.
func charge(quotas []corev1.ResourceQuota, pod *corev1.Pod, pods quotav1.Evaluator) error {
	usage, err := pods.Usage(pod)
	if err != nil {
		return err
	}
	for i := range quotas {
		matches, err := pods.Matches(&quotas[i], pod)
		if err != nil {
			return err
		}
		if used := quotas[i].Status.Used; matches {
			quotas[i].Status.Used = quotav1.Add(used, quotav1.Mask(usage, quotav1.ResourceNames(used)))
		}
	}
	return nil
}

// created returns pod as it is at its creation: not being deleted.
func created(pod *corev1.Pod) *corev1.Pod {
	if pod.DeletionTimestamp == nil {
		return pod
	}
	alive := *pod
	alive.DeletionTimestamp = nil
	return &alive
}

// creationOf returns the request that creates pod, as admission sees it.
func creationOf(pod *corev1.Pod) admission.Attributes {
	return admission.NewAttributesRecord(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), pod.Namespace, pod.Name,
		corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create, &metav1.CreateOptions{}, false, nil)
}
