package rebalance

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Pod is what planning looks at of an upper pod on a virtual node.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
	// Cluster is the virtual node, which is named after its lower cluster.
	Cluster string
	// Owner is the controller, or the pod itself where it has none.
	Owner snapshot.Owner
	// DaemonSet is its controller's kind.
	DaemonSet   bool
	Terminating bool
	// Keep is the wish of the annotation tessera.sh/keep.
	Keep bool
	// Unschedulable is since when the lower scheduler has found no node; zero if it has, or was not asked yet.
	Unschedulable time.Time
}

// newPod reduces a pod; ok is false where it is not bound or does not wait.
func newPod(pod *corev1.Pod) (reduced Pod, ok bool) {
	return Pod{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		Cluster:       pod.Spec.NodeName,
		Owner:         snapshot.OwnerOf(pod),
		DaemonSet:     translate.OfDaemonSet(pod),
		Terminating:   pod.DeletionTimestamp != nil,
		Keep:          pod.Annotations[keys.Keep] == "true",
		Unschedulable: unschedulable(pod),
	}, pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending
}

func unschedulable(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// keeps says why the pod must not be moved, whatever the limits.
func (p Pod) keeps() SkipReason {
	switch {
	case p.Terminating:
		return Terminating
	case p.Namespace == metav1.NamespaceSystem:
		return ProtectedNamespace
	case p.Keep:
		return Kept
	case p.Owner.UID == p.UID:
		return NoController
	case p.DaemonSet:
		return DaemonSet
	}
	return ""
}

// stuck is the policy for pods that no node of their cluster takes, although the extender thought so.
type stuck struct {
	after time.Duration
}

func (stuck) name() string { return "stuck" }

func (s stuck) judge(now time.Time, pod Pod) (since time.Time, reason string, ok bool) {
	return pod.Unschedulable, corev1.PodReasonUnschedulable, !pod.Unschedulable.IsZero() && now.Sub(pod.Unschedulable) > s.after
}

// onlyJudged keeps what newPod reads, so that the cache of waiting pods stays small.
func onlyJudged(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			DeletionTimestamp: pod.DeletionTimestamp, OwnerReferences: pod.OwnerReferences,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	if keep, set := pod.Annotations[keys.Keep]; set {
		trimmed.Annotations = map[string]string{keys.Keep: keep}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerScheduled {
			trimmed.Status.Conditions = []corev1.PodCondition{c}
		}
	}
	return trimmed, nil
}
