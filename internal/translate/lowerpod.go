package translate

import (
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// Target is where a lower pod goes.
type Target struct {
	// VirtualNode is the name of the virtual node and Labels are its labels in the upper cluster: unsealing
	// depends on which one was chosen.
	VirtualNode string
	Labels      map[string]string
	// Identity names the upper cluster on everything it owns below.
	Identity string
	// Rules are what this virtual node does beyond what holds for all.
	Rules Rules
}

// LowerPod returns the pod as it is created in the lower cluster. The extender judges this pod, and virtualnode
// creates it, so what is dropped here is never filtered on and what is filtered on is kept.
//
// What becomes of each field, and why, is in testdata/fields.txt. Its error is a *NotAllowed where the rules of the
// virtual node do not let the pod through; others name an annotation or rules that cannot be read.
func LowerPod(pod *corev1.Pod, target Target) (*corev1.Pod, error) {
	if err := target.allows(pod); err != nil {
		return nil, err
	}
	whole, err := seal.Unseal(pod)
	if err != nil {
		return nil, err
	}
	constraints := whole.Below(target.Labels)
	if constraints.Required, err = target.Rules.onNodes(constraints.Required); err != nil {
		return nil, err
	}
	lower := &corev1.Pod{ObjectMeta: lowerMeta(pod, target), Spec: *pod.Spec.DeepCopy()}
	constraints.Copy().Write(lower)

	spec := &lower.Spec
	spec.NodeName, spec.SchedulerName = "", target.Rules.SchedulerName
	spec.PriorityClassName = target.Rules.PriorityClass(pod.Spec.PriorityClassName)
	spec.Priority, spec.PreemptionPolicy, spec.Overhead = nil, nil, nil
	spec.SchedulingGates, spec.SchedulingGroup, spec.EphemeralContainers, spec.EvictionResponders = nil, nil, nil, nil
	spec.Tolerations = TolerationsOf(pod).below()
	resolveLabelKeys(spec, lower.Labels)
	target.Rules.translateNamespaces(spec.Affinity)
	if err := target.translateAccount(pod, spec); err != nil {
		return nil, err
	}
	dropMarker(spec.InitContainers)
	dropMarker(spec.Containers)
	keepUpperFields(pod, lower)
	return lower, nil
}

// lowerMeta keeps the user's labels and annotations and adds the marks of ownership.
func lowerMeta(pod *corev1.Pod, target Target) metav1.ObjectMeta {
	meta := metav1.ObjectMeta{
		Name: pod.Name, Namespace: target.Rules.LowerNamespace(pod.Namespace),
		Labels: map[string]string{}, Annotations: map[string]string{},
	}
	maps.Copy(meta.Labels, pod.Labels)
	maps.Copy(meta.Annotations, pod.Annotations)
	ours := func(key, _ string) bool { return above(key) }
	maps.DeleteFunc(meta.Labels, ours)
	maps.DeleteFunc(meta.Annotations, ours)
	delete(meta.Annotations, corev1.LastAppliedConfigAnnotation) // It speaks of the upper object,
	delete(meta.Annotations, corev1.PodDeletionCost)             // and this one to its ReplicaSet.
	letGo(pod, meta.Annotations)
	meta.Labels[keys.Upper] = target.Identity
	meta.Labels[keys.VirtualNode] = target.VirtualNode
	meta.Annotations[keys.UpperUID] = string(pod.UID)
	meta.Annotations[keys.UpperNamespace] = pod.Namespace
	meta.Annotations[keys.UpperName] = pod.Name
	if pod.Generation > 1 {
		meta.Annotations[keys.UpperGeneration] = strconv.FormatInt(pod.Generation, 10)
	}
	return meta
}

// above reports whether a key speaks of the upper cluster and of virtual nodes alone.
func above(key string) bool { return strings.HasPrefix(key, keys.Domain) }

// safeToEvict tells cluster-autoscaler that a pod does not keep its node.
const safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"

// letGo says below what the owner of the upper pod says by being there: the pod is made anew wherever it ends. Without it a
// cluster-autoscaler there keeps the node of every pod whose controller it does not know.
func letGo(pod *corev1.Pod, annotations map[string]string) {
	if _, said := annotations[safeToEvict]; !said && metav1.GetControllerOfNoCopy(pod) != nil {
		annotations[safeToEvict] = "true"
	}
}

// OwnedByNamespace has a lower pod belong to its namespace: nothing that anybody deletes by itself, and a controller. kubectl drain
// takes pods that have one without --force, and controllers of the lower cluster do not adopt them.
func OwnedByNamespace(name string, uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: name, UID: uid, Controller: new(true)}}
}

func dropMarker(containers []corev1.Container) {
	for i := range containers {
		delete(containers[i].Resources.Requests, keys.PodResource)
		delete(containers[i].Resources.Limits, keys.PodResource)
	}
}
