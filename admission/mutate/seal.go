package mutate

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// seal is translate.Seal, except that a sealed pod which another webhook has given more constraints is sealed again
// with all of them: left outside, they would be held against virtual nodes, which know nothing of them.
func seal(pod *corev1.Pod) (*corev1.Pod, error) {
	if !translate.Sealed(pod) {
		return translate.Seal(pod)
	}
	whole, err := translate.Unseal(pod)
	if err != nil {
		return nil, err
	}
	before, err := translate.Seal(restored(pod, whole))
	if err != nil {
		return nil, err
	}
	now := required(pod)
	if apiequality.Semantic.DeepEqual(before.Spec.NodeSelector, pod.Spec.NodeSelector) &&
		apiequality.Semantic.DeepEqual(required(before), now) {
		return pod, nil
	}
	selector := maps.Clone(pod.Spec.NodeSelector)
	if selector == nil {
		selector = map[string]string{}
	}
	maps.Copy(selector, whole.NodeSelector)
	return translate.Seal(restored(pod, translate.Constraints{NodeSelector: selector, Required: both(whole.Required, now)}))
}

// restored returns the pod as it was before it was sealed, with these constraints.
func restored(pod *corev1.Pod, c translate.Constraints) *corev1.Pod {
	open := pod.DeepCopy()
	delete(open.Annotations, keys.Sealed)
	open.Spec.NodeSelector = c.NodeSelector
	if open.Spec.Affinity == nil {
		open.Spec.Affinity = &corev1.Affinity{}
	}
	if open.Spec.Affinity.NodeAffinity == nil {
		open.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	open.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = c.Required
	return open
}

// both returns the terms that hold where a and b hold: each of a's joined with each of b's. A term without any
// expression matches nothing and stays away; so does the result of joining with it.
func both(a, b *corev1.NodeSelector) *corev1.NodeSelector {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	joined := &corev1.NodeSelector{}
	for _, left := range a.NodeSelectorTerms {
		for _, right := range b.NodeSelectorTerms {
			if translate.MatchesNothing(left) || translate.MatchesNothing(right) {
				continue
			}
			joined.NodeSelectorTerms = append(joined.NodeSelectorTerms, corev1.NodeSelectorTerm{
				MatchExpressions: slices.Concat(left.MatchExpressions, right.MatchExpressions),
				MatchFields:      slices.Concat(left.MatchFields, right.MatchFields),
			})
		}
	}
	return joined
}

func required(pod *corev1.Pod) *corev1.NodeSelector {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return nil
	}
	return pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}
