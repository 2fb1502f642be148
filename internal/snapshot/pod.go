package snapshot

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podresources "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Owner names what a pod belongs to: its controller, or the pod itself where it has none.
type Owner struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// OwnerOf returns the owner of a pod.
func OwnerOf(pod *corev1.Pod) Owner {
	if controller := metav1.GetControllerOf(pod); controller != nil {
		return Owner{Kind: controller.Kind, Namespace: pod.Namespace, Name: controller.Name, UID: controller.UID}
	}
	return Owner{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// Pod is a pod that asks for room: the pod as it will be below, reduced to what fit looks at.
type Pod struct {
	// Requests include Pods: 1.
	Requests    Resources
	tolerations []corev1.Toleration
	affinity    nodeaffinity.RequiredNodeAffinity
}

// NewPod reduces a pod as it will be in the lower cluster (translate.LowerPod).
func NewPod(lower *corev1.Pod) *Pod {
	return &Pod{
		Requests:    Requests(lower),
		tolerations: lower.Spec.Tolerations,
		affinity:    nodeaffinity.GetRequiredNodeAffinity(lower),
	}
}

// Requests is what kube-scheduler 1.36 charges a node for a pod: init and sidecar containers, overhead, pod-level
// resources and, for a pod under in-place resize, the larger of what it has and what it asks; and one pod.
func Requests(pod *corev1.Pod) Resources {
	requests := FromList(podresources.PodRequests(pod, podresources.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}))
	requests.Pods = 1
	return requests
}

// Finished reports whether a pod no longer uses its node.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// LowerPod is a pod that exists in a lower cluster, reduced to what a snapshot needs of it.
type LowerPod struct {
	// Node is empty while the pod is pending.
	Node     string
	Requests Resources
	Finished bool
	// UpperUID is set on pods of our upper cluster alone: the UID of the upper pod.
	UpperUID types.UID
	// Hint is status.nominatedNodeName.
	Hint string
	// Unschedulable: the lower scheduler has tried and found no node.
	Unschedulable bool
}

// NewLowerPod reduces a pod of a lower cluster; identity is that of the upper cluster.
func NewLowerPod(pod *corev1.Pod, identity string) *LowerPod {
	lower := &LowerPod{
		Node: pod.Spec.NodeName, Requests: Requests(pod), Finished: Finished(pod), Hint: pod.Status.NominatedNodeName,
	}
	if pod.Labels[keys.Upper] == identity && identity != "" {
		lower.UpperUID = types.UID(pod.Annotations[keys.UpperUID])
	}
	lower.Unschedulable = pod.Spec.NodeName == "" && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
	})
	return lower
}

func compareNodes(a, b *Node) int { return cmp.Compare(a.Name(), b.Name()) }
