package seal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// Without returns what is in c and not in base: what somebody added to a pod that said base. Required affinity that is not the same is
// returned whole, as it has to be met in any case.
func (c Constraints) Without(base Constraints) Constraints {
	added := Constraints{NodeSelector: c.selector(func(key string) bool {
		value, there := base.NodeSelector[key]
		return !there || value != c.NodeSelector[key]
	})}
	if !apiequality.Semantic.DeepEqual(c.Required, base.Required) {
		added.Required = c.Required
	}
	added.Preferred = without(c.Preferred, base.Preferred)
	added.Spread = without(c.Spread, base.Spread)
	added.PodAffinity = (*corev1.PodAffinity)((*terms)(c.PodAffinity).without((*terms)(base.PodAffinity)))
	added.PodAntiAffinity = (*corev1.PodAntiAffinity)((*terms)(c.PodAntiAffinity).without((*terms)(base.PodAntiAffinity)))
	return added
}

// And returns the constraints under which both hold. Its error names what cannot be met together: a node selector with two values for
// one key, a constraint of spread that is there twice with different demands.
func (c Constraints) And(more Constraints) (Constraints, error) {
	both := c
	for key, value := range more.NodeSelector {
		if have, there := c.NodeSelector[key]; there && have != value {
			return c, fmt.Errorf("node selector %s: both %q and %q are asked for: remove one", key, have, value)
		}
	}
	if len(more.NodeSelector) > 0 {
		both.NodeSelector = Union(c.NodeSelector, more.NodeSelector)
	}
	both.Required = joined(c.Required, more.Required)
	both.Preferred = with(c.Preferred, more.Preferred)
	both.Spread = with(c.Spread, more.Spread)
	for i, one := range both.Spread {
		same := func(other corev1.TopologySpreadConstraint) bool {
			return one.TopologyKey == other.TopologyKey && one.WhenUnsatisfiable == other.WhenUnsatisfiable
		}
		if slices.IndexFunc(both.Spread, same) < i {
			return c, fmt.Errorf("topology spread over %s, %s: there are two, and they differ: remove one", one.TopologyKey, one.WhenUnsatisfiable)
		}
	}
	both.PodAffinity = (*corev1.PodAffinity)((*terms)(c.PodAffinity).with((*terms)(more.PodAffinity)))
	both.PodAntiAffinity = (*corev1.PodAntiAffinity)((*terms)(c.PodAntiAffinity).with((*terms)(more.PodAntiAffinity)))
	return both, nil
}

// joined returns the terms that hold where a and b hold: each of a's with each of b's. A term that matches nothing stays away, and so
// does the result of joining with it.
func joined(a, b *corev1.NodeSelector) *corev1.NodeSelector {
	switch {
	case a == nil || b == nil:
		return cmp.Or(a, b)
	case implies(b, a):
		return b
	case implies(a, b):
		return a
	}
	both := &corev1.NodeSelector{}
	for _, left := range a.NodeSelectorTerms {
		for _, right := range b.NodeSelectorTerms {
			if MatchesNothing(left) || MatchesNothing(right) {
				continue
			}
			term := corev1.NodeSelectorTerm{
				MatchExpressions: with(left.MatchExpressions, right.MatchExpressions), MatchFields: with(left.MatchFields, right.MatchFields),
			}
			both.NodeSelectorTerms = with(both.NodeSelectorTerms, []corev1.NodeSelectorTerm{term})
		}
	}
	return both
}

// implies reports whether each term of a is one of b's with more demands: what meets a meets b.
func implies(a, b *corev1.NodeSelector) bool {
	return !slices.ContainsFunc(a.NodeSelectorTerms, func(narrow corev1.NodeSelectorTerm) bool {
		return !MatchesNothing(narrow) && !slices.ContainsFunc(b.NodeSelectorTerms, func(wide corev1.NodeSelectorTerm) bool {
			return !MatchesNothing(wide) && len(without(wide.MatchExpressions, narrow.MatchExpressions))+
				len(without(wide.MatchFields, narrow.MatchFields)) == 0
		})
	})
}

// without returns the elements of list that are not in base.
func without[T any](list, base []T) []T {
	return filter(list, func(one T) bool { return !contains(base, one) })
}

// with returns the elements of list and those of more that are not among them.
func with[T any](list, more []T) []T {
	if more = without(more, list); len(more) == 0 {
		return list
	}
	return slices.Concat(list, more)
}

func contains[T any](list []T, one T) bool {
	return slices.ContainsFunc(list, func(other T) bool { return apiequality.Semantic.DeepEqual(one, other) })
}

// Empty reports whether nothing is said.
func (c Constraints) Empty() bool {
	return len(c.NodeSelector) == 0 && c.Required == nil && c.Terms() == 0
}

// Copy is a deep copy.
func (c Constraints) Copy() Constraints {
	pod := &corev1.Pod{}
	c.Write(pod)
	whole := Of(pod.DeepCopy())
	whole.Standard, whole.UpperKeys = maps.Clone(c.Standard), slices.Clone(c.UpperKeys)
	return whole
}
