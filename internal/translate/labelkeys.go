package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resolveLabelKeys turns matchLabelKeys and mismatchLabelKeys into what they stand for. The upper API server has merged them
// into the selectors and kept the keys; one below would merge them again and refuse the result, a key that is in both.
func resolveLabelKeys(spec *corev1.PodSpec, labels map[string]string) {
	for i := range spec.TopologySpreadConstraints {
		c := &spec.TopologySpreadConstraints[i]
		c.LabelSelector = withLabelKeys(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn, labels)
		c.MatchLabelKeys = nil
	}
	for _, term := range podAffinityTerms(spec.Affinity) {
		resolveTerm(term, labels)
	}
}

// podAffinityTerms returns the terms of a pod's affinity and anti-affinity to other pods, required and preferred.
func podAffinityTerms(affinity *corev1.Affinity) []*corev1.PodAffinityTerm {
	if affinity == nil {
		return nil
	}
	var terms []*corev1.PodAffinityTerm
	take := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			terms = append(terms, &required[i])
		}
		for i := range preferred {
			terms = append(terms, &preferred[i].PodAffinityTerm)
		}
	}
	if with := affinity.PodAffinity; with != nil {
		take(with.RequiredDuringSchedulingIgnoredDuringExecution, with.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if away := affinity.PodAntiAffinity; away != nil {
		take(away.RequiredDuringSchedulingIgnoredDuringExecution, away.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return terms
}

func resolveTerm(term *corev1.PodAffinityTerm, labels map[string]string) {
	term.LabelSelector = withLabelKeys(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn, labels)
	term.LabelSelector = withLabelKeys(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn, labels)
	term.MatchLabelKeys, term.MismatchLabelKeys = nil, nil
}

// withLabelKeys adds what the keys demand and the selector does not yet. Keys that the pod has no label of demand nothing.
func withLabelKeys(selector *metav1.LabelSelector, keys []string, operator metav1.LabelSelectorOperator,
	labels map[string]string) *metav1.LabelSelector {
	for _, key := range keys {
		value, labelled := labels[key]
		if !labelled || selector == nil { // The API server takes no keys without a selector.
			continue
		}
		present := slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == key && r.Operator == operator && slices.Equal(r.Values, []string{value})
		})
		if !present {
			demand := metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}}
			selector.MatchExpressions = append(selector.MatchExpressions, demand)
		}
	}
	return selector
}
