package budgets

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// count is what is known of the pods that a budget selects.
type count struct {
	// here are the healthy ones on this virtual node and elsewhere the other healthy ones, as the upper cluster sees them.
	here, elsewhere int
	// below are the ready lower pods of this virtual node. It differs from here while news is on its way.
	below int
	// most are the pods of this virtual node on whichever side there are more, ready or not.
	most int
}

// minAvailable is how many pods the mirror demands: never less than what the budget demands without the pods elsewhere.
//
// mine: it is this virtual node's turn to let pods go, and the mirror allows as many as the budget does now. A pod that
// is ready on one side only is not let go, so that one that has just become ready below does not free another before
// the upper cluster has counted it. Where it is not its turn, none may go, also in the moment in which a pod becomes
// ready: so as many are demanded as could.
func minAvailable(status policyv1.PodDisruptionBudgetStatus, pods count, mine bool) int {
	demanded := int(status.DesiredHealthy)
	if !mine {
		return max(pods.most, demanded-pods.elsewhere)
	}
	allowed := max(0, min(int(status.DisruptionsAllowed), pods.here+pods.elsewhere-demanded))
	return max(0, max(pods.here, pods.below)-allowed, demanded-pods.elsewhere)
}

// observed reports whether the status of a budget speaks of its present spec. Where it does not, the upper API server
// lets no pod go.
func observed(budget *policyv1.PodDisruptionBudget) bool {
	return budget.Status.ObservedGeneration >= budget.Generation
}

// healthy reports whether a budget counts an upper pod as one that is there.
func healthy(pod *corev1.Pod, status policyv1.PodDisruptionBudgetStatus) bool {
	_, leaving := status.DisruptedPods[pod.Name]
	return !leaving && ready(pod)
}

// ready reports whether a pod is ready and stays.
func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// survey counts the upper pods that a budget selects, and lists the virtual nodes they are on: pods that run below
// carry the name of their lower node.
func survey(selected []*corev1.Pod, status policyv1.PodDisruptionBudgetStatus, self string) (pods count, on []string) {
	for _, pod := range selected {
		if snapshot.Finished(pod) {
			continue
		}
		if pod.Annotations[keys.LowerNode] != "" {
			on = append(on, pod.Spec.NodeName)
		}
		if pod.Spec.NodeName == self && pod.DeletionTimestamp == nil {
			pods.most++
		}
		switch {
		case !healthy(pod, status):
		case pod.Spec.NodeName == self:
			pods.here++
		default:
			pods.elsewhere++
		}
	}
	slices.Sort(on)
	return pods, slices.Compact(on)
}

// mirror is the budget below. Its name is one that nobody else chooses, another one for every virtual node.
func mirror(budget *policyv1.PodDisruptionBudget, namespace, identity, virtualNode string, minAvailable int) *policyv1.PodDisruptionBudget {
	least := intstr.FromInt(minAvailable)
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: mirrorName(budget.Namespace, budget.Name, identity, virtualNode),
			Labels: map[string]string{keys.Upper: identity, keys.VirtualNode: virtualNode},
			Annotations: map[string]string{
				keys.UpperUID: string(budget.UID), keys.UpperNamespace: budget.Namespace, keys.UpperName: budget.Name,
			},
		},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &least, Selector: lowerSelector(budget.Spec.Selector, identity, virtualNode),
			UnhealthyPodEvictionPolicy: budget.Spec.UnhealthyPodEvictionPolicy,
		},
	}
}

func mirrorName(namespace, name, identity, virtualNode string) string {
	sum := sha256.Sum256([]byte(namespace + "\n" + name + "\n" + identity + "\n" + virtualNode))
	const longest = 200
	return "tessera-" + strings.TrimRight(name[:min(len(name), longest)], "-.") + "-" + hex.EncodeToString(sum[:])[:10]
}

// lowerSelector selects the lower pods of one virtual node that stand for those that the upper selector selects. Labels
// of Tessera's domain stay above: what a selector says of them is left out, and the mirror holds for more pods then.
func lowerSelector(upper *metav1.LabelSelector, identity, virtualNode string) *metav1.LabelSelector {
	lower := upper.DeepCopy()
	if lower.MatchLabels == nil {
		lower.MatchLabels = map[string]string{}
	}
	maps.DeleteFunc(lower.MatchLabels, func(key, _ string) bool { return strings.HasPrefix(key, keys.Domain) })
	lower.MatchExpressions = slices.DeleteFunc(lower.MatchExpressions,
		func(r metav1.LabelSelectorRequirement) bool { return strings.HasPrefix(r.Key, keys.Domain) })
	lower.MatchLabels[keys.Upper], lower.MatchLabels[keys.VirtualNode] = identity, virtualNode
	return lower
}
