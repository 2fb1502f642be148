package snapshot

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// constraint is a topology spread constraint that forbids (DoNotSchedule).
type constraint struct {
	key                         string // of the topology
	pods                        labels.Selector
	maxSkew, minDomains         int
	honorAffinity, honorTaints  bool
	id                          string // equal for equal selectors in one namespace
	matchesItself, countsNobody bool
}

// newConstraints reads the constraints of a pod; ok is false where a selector cannot be read.
func newConstraints(pod *corev1.Pod) (constraints []constraint, ok bool) {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			return nil, false
		}
		selector = withKeys(selector, c.MatchLabelKeys, pod.Labels)
		read := constraint{
			key: c.TopologyKey, pods: selector, maxSkew: int(c.MaxSkew), minDomains: 1, honorAffinity: true,
			id: pod.Namespace + " " + selector.String(), matchesItself: selector.Matches(labels.Set(pod.Labels)), countsNobody: selector.Empty(),
		}
		if c.MinDomains != nil {
			read.minDomains = int(*c.MinDomains)
		}
		if c.NodeAffinityPolicy != nil {
			read.honorAffinity = *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
		}
		if c.NodeTaintsPolicy != nil {
			read.honorTaints = *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		}
		constraints = append(constraints, read)
	}
	return constraints, true
}

// withKeys narrows a selector to pods that have the pod's own values of these labels.
func withKeys(selector labels.Selector, keys []string, own map[string]string) labels.Selector {
	requirements, selectable := selector.Requirements()
	same := labels.Set{}
	for _, key := range keys {
		if value, ok := own[key]; ok {
			same[key] = value
		}
	}
	if !selectable || len(same) == 0 {
		return selector
	}
	return labels.SelectorFromSet(same).Add(requirements...)
}

// counts reports whether the constraint counts a pod. Pods on their way out do not count.
func (c *constraint) counts(namespace string, pod *tenant) bool {
	return !c.countsNobody && !pod.terminating && pod.namespace == namespace && c.pods.Matches(pod.labels)
}
