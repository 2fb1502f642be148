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
	if affinity := spec.Affinity; affinity != nil && affinity.PodAffinity != nil {
		resolveTerms(affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, labels)
		resolveWeighted(affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, labels)
	}
	if affinity := spec.Affinity; affinity != nil && affinity.PodAntiAffinity != nil {
		resolveTerms(affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, labels)
		resolveWeighted(affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, labels)
	}
}

func resolveTerms(terms []corev1.PodAffinityTerm, labels map[string]string) {
	for i := range terms {
		resolveTerm(&terms[i], labels)
	}
}

func resolveWeighted(terms []corev1.WeightedPodAffinityTerm, labels map[string]string) {
	for i := range terms {
		resolveTerm(&terms[i].PodAffinityTerm, labels)
	}
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
