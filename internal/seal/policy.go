package seal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Names are those in a list as annotations have it, separated by commas.
func Names(list string) []string {
	if list == "" {
		return nil
	}
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// Ranks gives each cluster its place in the order that a pod asks for. Clusters that it does not name come last, all of them equal.
func Ranks(pod *corev1.Pod) func(cluster string) int {
	order := Names(pod.Annotations[keys.ClusterOrder])
	return func(cluster string) int {
		if at := slices.Index(order, cluster); at >= 0 {
			return at
		}
		return len(order)
	}
}

// Overflows reports whether a pod goes to virtual nodes only where no real node takes it.
func Overflows(pod *corev1.Pod) bool { return pod.Annotations[keys.Policy] == keys.PolicyOverflow }

// costStep lies between the deletion costs of neighbours in an order.
const costStep = 100

// DeletionCost is the value of controller.kubernetes.io/pod-deletion-cost for a pod in a cluster, by which its ReplicaSet, made smaller,
// takes the pods first that came last: the farther a pod is from where its policy and order would have it, the less it costs. Pods on real
// nodes cost nothing, so under `overflow` those on virtual nodes cost less than that, under `prefer` more. false where nothing is to be
// written: pods of other owners, those whose user has set a cost, and those of which none is farther than another.
func DeletionCost(pod *corev1.Pod, cluster string) (cost string, wanted bool) {
	controller := metav1.GetControllerOfNoCopy(pod)
	if _, set := pod.Annotations[corev1.PodDeletionCost]; set || controller == nil || controller.Kind != "ReplicaSet" {
		return "", false
	}
	order, rank := len(Names(pod.Annotations[keys.ClusterOrder])), Ranks(pod)(cluster)
	switch pod.Annotations[keys.Policy] {
	case keys.PolicyOverflow:
		return strconv.Itoa(-costStep * (rank + 1)), true
	case keys.PolicyPrefer:
		return strconv.Itoa(costStep * (order + 1 - rank)), true
	default:
		return strconv.Itoa(-costStep * rank), order > 0
	}
}

// Fence returns which virtual nodes the pods of a namespace may go to, by their labels. Its error names an annotation that cannot be read:
// then none.
func Fence(namespace *corev1.Namespace) (labels.Selector, error) {
	text, fenced := namespace.Annotations[keys.Clusters]
	if !fenced {
		return labels.Everything(), nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return labels.Nothing(), fmt.Errorf("reading annotation %s of namespace %s: %w", keys.Clusters, namespace.Name, err)
	}
	return selector, nil
}
