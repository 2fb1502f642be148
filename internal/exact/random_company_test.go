package exact_test

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// wantCompany gives a pod required affinity and anti-affinity to other pods, and spread constraints.
func (s *source) wantCompany(pod *corev1.Pod) {
	near, apart := s.terms(pod, 0.12), s.terms(pod, 0.12)
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &corev1.Affinity{}
	}
	if len(near) > 0 {
		pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: near}
	}
	if len(apart) > 0 {
		pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution:  apart,
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: s.term(pod)}},
		}
	}
	if s.chance(0.25) {
		s.spread(pod)
		s.bar(pod)
	}
}

// bar keeps a pod that spreads off some nodes, at times: it makes a difference then whether these nodes count.
func (s *source) bar(pod *corev1.Pod) {
	switch {
	case s.chance(0.3):
		pod.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	case s.chance(0.3) && pod.Spec.Affinity.NodeAffinity == nil:
		others := corev1.NodeSelectorRequirement{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"node-00", "node-02", "node-04", "node-06", "node-08"},
		}
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{others}}},
		}}
	}
}

func (s *source) terms(pod *corev1.Pod, chance float64) []corev1.PodAffinityTerm {
	var terms []corev1.PodAffinityTerm
	if s.chance(chance) {
		for range 1 + s.IntN(2) {
			terms = append(terms, s.term(pod))
		}
	}
	return terms
}

// topology is a label that makes domains: of one node, of some, and one that no node has.
func (s *source) topology() string {
	return pick(s, corev1.LabelHostname, corev1.LabelHostname, corev1.LabelHostname, "zone", "zone", "zone", "disk", "rack")
}

func (s *source) term(pod *corev1.Pod) corev1.PodAffinityTerm {
	term := corev1.PodAffinityTerm{LabelSelector: s.selector("app", "tier", "version"), TopologyKey: s.topology()}
	if s.chance(0.3) {
		for range 1 + s.IntN(2) {
			term.Namespaces = append(term.Namespaces, s.namespace())
		}
	}
	switch {
	case s.chance(0.1):
		term.NamespaceSelector = &metav1.LabelSelector{} // Every namespace.
	case s.chance(0.2):
		term.NamespaceSelector = s.selector("team", "tier")
	}
	if term.LabelSelector != nil && s.chance(0.1) {
		// An API server writes what these keys mean into the selector and leaves the keys.
		if s.chance(0.5) {
			term.MatchLabelKeys = s.absorb(term.LabelSelector, metav1.LabelSelectorOpIn, pod.Labels)
		} else {
			term.MismatchLabelKeys = s.absorb(term.LabelSelector, metav1.LabelSelectorOpNotIn, pod.Labels)
		}
	}
	return term
}

// absorb narrows a selector by the pod's own value of a label that is not in it yet, and returns the label in a list.
func (s *source) absorb(selector *metav1.LabelSelector, operator metav1.LabelSelectorOperator, own map[string]string) []string {
	key := pick(s, "app", "tier", "version")
	_, used := selector.MatchLabels[key]
	used = used || slices.ContainsFunc(selector.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
	if used {
		return nil
	}
	if value, ok := own[key]; ok {
		selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
	}
	return []string{key}
}

var labelValues = map[string][]string{
	"app": {"a", "b", "c"}, "tier": {"front", "back"}, "version": {"1", "2"}, "team": {"red", "blue"},
}

// selector is nil, which selects nothing, or empty, which selects everything, or one or two requirements on the labels.
func (s *source) selector(labels ...string) *metav1.LabelSelector {
	if s.chance(0.1) {
		return nil
	}
	selector := &metav1.LabelSelector{}
	for _, i := range s.Perm(len(labels))[:pick(s, 0, 1, 1, 1, 1, 1, 2)] {
		label := labels[i]
		value := pick(s, labelValues[label]...)
		if s.chance(0.6) {
			if selector.MatchLabels == nil {
				selector.MatchLabels = map[string]string{}
			}
			selector.MatchLabels[label] = value
			continue
		}
		operator := pick(s, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)
		requirement := metav1.LabelSelectorRequirement{Key: label, Operator: operator}
		if operator == metav1.LabelSelectorOpIn || operator == metav1.LabelSelectorOpNotIn {
			requirement.Values = []string{value, "other"}
		}
		selector.MatchExpressions = append(selector.MatchExpressions, requirement)
	}
	return selector
}

// spread gives a pod one or two constraints, of different topologies.
func (s *source) spread(pod *corev1.Pod) {
	policy := func() *corev1.NodeInclusionPolicy {
		return pick(s, nil, nil, new(corev1.NodeInclusionPolicyHonor), new(corev1.NodeInclusionPolicyIgnore))
	}
	for i, key := range []string{s.topology(), s.topology()}[:1+s.IntN(2)] {
		if i > 0 && key == pod.Spec.TopologySpreadConstraints[0].TopologyKey {
			continue
		}
		constraint := corev1.TopologySpreadConstraint{
			MaxSkew: 1 + s.Int32N(3), TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: s.selector("app", "tier", "version"),
			NodeAffinityPolicy: policy(), NodeTaintsPolicy: policy(),
		}
		switch {
		case s.chance(0.2):
			constraint.WhenUnsatisfiable = corev1.ScheduleAnyway
		case s.chance(0.3):
			constraint.MinDomains = new(1 + s.Int32N(4))
		}
		if constraint.LabelSelector != nil && s.chance(0.3) {
			stored := constraint.LabelSelector.DeepCopy()
			constraint.MatchLabelKeys = s.absorb(stored, metav1.LabelSelectorOpIn, pod.Labels)
			if s.chance(0.5) { // Else it is on its way to the API server, and the scheduler's plugin means the same by the keys.
				constraint.LabelSelector = stored
			}
		}
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, constraint)
	}
}
