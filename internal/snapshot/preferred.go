package snapshot

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// preferences are what a pod states that it would rather have, as kube-scheduler's Score plugins read it.
type preferences struct {
	nodes  *nodeaffinity.PreferredSchedulingTerms // preferred node affinity (NodeAffinity)
	labels []string                               // of nodes, that it looks at
	byName bool                                   // it tells apart nodes by what each has of its own
	pods   []term                                 // preferred pod affinity and, with weights below zero, anti-affinity (InterPodAffinity)
	spread []constraint                           // ScheduleAnyway (PodTopologySpread)
}

// hardPodAffinityWeight is the argument of InterPodAffinity of that name, as it is by default: how much a pod draws others that its
// required affinity means.
const hardPodAffinityWeight = 1

// Above is what a pod prefers of clusters, which only a look over all of them can tell. What it says about other pods, over labels of
// virtual nodes, is read by Prefer.
type Above struct {
	// Labels are those of the virtual node that the pod comes through: the domains that its cluster is in.
	Labels map[string]string
	// Nodes is the sum of the weights of those preferred node affinity terms that speak of virtual nodes alone, and hold for this one.
	Nodes int64
}

func newPreferences(lower *corev1.Pod) preferences {
	p := preferences{spread: softConstraints(lower), pods: preferredTerms(lower)}
	if affinity := lower.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		terms := affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		if len(terms) > 0 {
			p.nodes, _ = nodeaffinity.NewPreferredSchedulingTerms(terms) // What cannot be read no API server lets through.
		}
		for _, t := range terms {
			p.byName = p.byName || len(t.Preference.MatchFields) > 0
			for _, e := range t.Preference.MatchExpressions {
				p.labels = append(p.labels, e.Key)
			}
		}
		slices.Sort(p.labels)
		p.labels = slices.Compact(p.labels)
	}
	return p
}

// Prefer adds what the pod prefers over labels of virtual nodes: the preferred terms about other pods and the ScheduleAnyway constraints
// of a pod that says nothing else, with the names of lower namespaces.
func (p *Pod) Prefer(over *corev1.Pod) {
	for _, t := range preferredTerms(over) {
		t.above = true
		p.preferred.pods = append(p.preferred.pods, t)
		p.draws = append(p.draws, drawing(t))
	}
	for _, c := range softConstraints(over) {
		c.above = true
		p.preferred.spread = append(p.preferred.spread, c)
	}
}

func softConstraints(pod *corev1.Pod) []constraint {
	constraints, _ := newConstraints(pod, corev1.ScheduleAnyway) // As with required ones, what cannot be read asks for nothing.
	return constraints
}

// preferredTerms are the preferred affinity terms of a pod, and with weights below zero its anti-affinity terms.
func preferredTerms(pod *corev1.Pod) (terms []term) {
	affinity := pod.Spec.Affinity
	if affinity == nil {
		return nil
	}
	if affinity.PodAffinity != nil {
		terms = weighted(terms, pod.Namespace, affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if affinity.PodAntiAffinity != nil {
		terms = weighted(terms, pod.Namespace, affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return terms
}

func weighted(terms []term, namespace string, from []corev1.WeightedPodAffinityTerm, sign int64) []term {
	for _, t := range from {
		read, ok := newTerms(namespace, []corev1.PodAffinityTerm{t.PodAffinityTerm})
		if ok {
			read[0].weight = sign * int64(t.Weight)
			terms = append(terms, read[0])
		}
	}
	return terms
}

// drawsOf are the terms by which a pod draws others to where it is, or with weights below zero wants them elsewhere: its preferred
// terms, and its required affinity.
func drawsOf(pod *corev1.Pod) []term {
	draws := preferredTerms(pod)
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.PodAffinity != nil {
		required, _ := newTerms(pod.Namespace, affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		for _, t := range required {
			t.weight = hardPodAffinityWeight
			draws = append(draws, t)
		}
	}
	for i := range draws {
		draws[i] = drawing(draws[i])
	}
	return draws
}

// drawing is a term whose id tells weights apart, too.
func drawing(t term) term {
	if t.id != "" {
		t.id += " " + strconv.FormatInt(t.weight, 10)
	}
	return t
}

// prefersNodes reports whether preferred node affinity has anything to say.
func (p *Pod) prefersNodes() bool { return p.preferred.nodes != nil || p.Above.Nodes != 0 }

// prefersNothing reports whether the pod states no preference. Taints and other pods may have one about it.
func (p *Pod) prefersNothing() bool {
	return p.preferred.nodes == nil && len(p.preferred.pods)+len(p.preferred.spread) == 0 && p.Above.Nodes == 0
}

// sameTerm reports whether two terms mean the same.
func sameTerm(a, b term) bool {
	return a.key == b.key && a.id == b.id && a.weight == b.weight && a.above == b.above && (a.id != "" ||
		slices.Equal(a.namespaces, b.namespaces) && a.among.String() == b.among.String() && a.among.Empty() == b.among.Empty() &&
			a.pods.String() == b.pods.String() && a.pods.Empty() == b.pods.Empty())
}
