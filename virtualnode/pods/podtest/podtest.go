// Package podtest makes the pods that the tests of virtualnode/pods and its rooms work with.
package podtest

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// UpperPod is a pod of Tessera bound to the virtual node "v", as admission hands it on.
func UpperPod(uid types.UID, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "p", UID: uid, Labels: map[string]string{"app": "a"},
			Annotations: map[string]string{keys.Tolerations: corev1.TaintNodeUnreachable},
		},
		Spec: corev1.PodSpec{NodeName: "v", Tolerations: []corev1.Toleration{{
			Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
		}}, Containers: []corev1.Container{{
			Name: "c", Image: "one", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1"), keys.PodResource: resource.MustParse("0"),
			}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// LowerPod is the pod below that stands for the upper pod of that UID.
func LowerPod(upper types.UID, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "p", UID: "below-" + upper,
			Labels:      map[string]string{"app": "a", keys.Upper: "identity", keys.VirtualNode: "v"},
			Annotations: map[string]string{keys.UpperUID: string(upper), keys.UpperNamespace: "ns", keys.UpperName: "p"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "one"}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

// Phase sets the phase.
func Phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}

// Deleting has the pod deleted since 1970, with that grace.
func Deleting(grace int64) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		now := metav1.NewTime(time.Unix(1000, 0))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	}
}

// WithCondition adds a condition.
func WithCondition(kind corev1.PodConditionType, status corev1.ConditionStatus) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: status})
	}
}

// Disrupted says that somebody below ends the pod for a reason.
func Disrupted(reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: "words",
		})
	}
}

// Restarts sets the restart policy.
func Restarts(policy corev1.RestartPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = policy }
}
