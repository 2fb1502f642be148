package seal

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Constraints are what a pod demands and prefers of the node it runs on, whole and unchanged. Their JSON is the annotation
// tessera.sh/sealed. Tolerations are not among them: they stay on the pod.
type Constraints struct {
	NodeSelector    map[string]string                 `json:"nodeSelector,omitempty"`
	Required        *corev1.NodeSelector              `json:"requiredNodeAffinity,omitempty"`
	Preferred       []corev1.PreferredSchedulingTerm  `json:"preferredNodeAffinity,omitempty"`
	PodAffinity     *corev1.PodAffinity               `json:"podAffinity,omitempty"`
	PodAntiAffinity *corev1.PodAntiAffinity           `json:"podAntiAffinity,omitempty"`
	Spread          []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// Standard is a selector of lower nodes that admission gives to pods which say nothing of its keys. It is none of the user's, and
	// real nodes do not see it.
	Standard map[string]string `json:"standard,omitempty"`
	// UpperKeys are keys beside those of tessera.sh/ that speak of clusters.
	UpperKeys []string `json:"upperKeys,omitempty"`
}

// Of returns what the spec of a pod says.
func Of(pod *corev1.Pod) Constraints {
	c := Constraints{NodeSelector: pod.Spec.NodeSelector, Spread: pod.Spec.TopologySpreadConstraints}
	affinity := pod.Spec.Affinity
	if affinity == nil {
		return c
	}
	c.PodAffinity, c.PodAntiAffinity = affinity.PodAffinity, affinity.PodAntiAffinity
	if nodes := affinity.NodeAffinity; nodes != nil {
		c.Required, c.Preferred = nodes.RequiredDuringSchedulingIgnoredDuringExecution, nodes.PreferredDuringSchedulingIgnoredDuringExecution
	}
	return c
}

// Write makes the spec of a pod say this, and leaves no empty shells behind.
func (c Constraints) Write(pod *corev1.Pod) {
	pod.Spec.NodeSelector, pod.Spec.TopologySpreadConstraints = c.NodeSelector, c.Spread
	affinity := &corev1.Affinity{PodAffinity: c.PodAffinity, PodAntiAffinity: c.PodAntiAffinity}
	if c.Required != nil || len(c.Preferred) > 0 {
		affinity.NodeAffinity = &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: c.Required, PreferredDuringSchedulingIgnoredDuringExecution: c.Preferred,
		}
	}
	if *affinity == (corev1.Affinity{}) {
		affinity = nil
	}
	pod.Spec.Affinity = affinity
}

// Terms counts the terms: alternatives of required and preferred node affinity, terms of pod affinity and anti-affinity, constraints
// of spread.
func (c Constraints) Terms() int {
	count := len(c.Preferred) + len(c.Spread) + (*terms)(c.PodAffinity).len() + (*terms)(c.PodAntiAffinity).len()
	if c.Required != nil {
		count += len(c.Required.NodeSelectorTerms)
	}
	return count
}

// MeansClusters reports whether a label or topology key speaks of clusters. All others speak of nodes.
func (c Constraints) MeansClusters(key string) bool {
	return strings.HasPrefix(key, keys.Domain) || slices.Contains(c.UpperKeys, key)
}

// Names reports whether a selector, required or preferred, names a key of nodes.
func (c Constraints) Names(key string) bool {
	if _, named := c.NodeSelector[key]; named {
		return true
	}
	names := func(term corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool { return e.Key == key })
	}
	return c.Required != nil && slices.ContainsFunc(c.Required.NodeSelectorTerms, names) ||
		slices.ContainsFunc(c.Preferred, func(p corev1.PreferredSchedulingTerm) bool { return names(p.Preference) })
}

// OverNodes returns the part about other pods whose topology keys speak of nodes. The lower cluster sees to it.
func (c Constraints) OverNodes() Constraints {
	return c.over(func(key string) bool { return !c.MeansClusters(key) })
}

// OverClusters returns the part about other pods whose topology keys speak of clusters. No scheduler of one cluster can see to it.
func (c Constraints) OverClusters() Constraints { return c.over(c.MeansClusters) }

func (c Constraints) over(wanted func(key string) bool) Constraints {
	return Constraints{
		PodAffinity:     (*corev1.PodAffinity)((*terms)(c.PodAffinity).over(wanted)),
		PodAntiAffinity: (*corev1.PodAntiAffinity)((*terms)(c.PodAntiAffinity).over(wanted)),
		Spread:          filter(c.Spread, func(s corev1.TopologySpreadConstraint) bool { return wanted(s.TopologyKey) }),
	}
}

// Demands is the part about other pods that has to be met, without what is preferred.
func (c Constraints) Demands() Constraints {
	return Constraints{
		PodAffinity:     (*corev1.PodAffinity)((*terms)(c.PodAffinity).demands()),
		PodAntiAffinity: (*corev1.PodAntiAffinity)((*terms)(c.PodAntiAffinity).demands()),
		Spread: filter(c.Spread, func(s corev1.TopologySpreadConstraint) bool {
			return cmp.Or(s.WhenUnsatisfiable, corev1.DoNotSchedule) == corev1.DoNotSchedule
		}),
	}
}

// filter returns the elements that are wanted; the whole slice, not a copy, if all are.
func filter[T any](list []T, wanted func(T) bool) []T {
	if !slices.ContainsFunc(list, func(one T) bool { return !wanted(one) }) {
		return list
	}
	var kept []T
	for _, one := range list {
		if wanted(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// Union returns the pairs of both maps; of a key in both, the first map's.
func Union(first, second map[string]string) map[string]string {
	if len(second) == 0 {
		return first
	}
	all := maps.Clone(second)
	maps.Copy(all, first)
	return all
}
