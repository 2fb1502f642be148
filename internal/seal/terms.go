package seal

import corev1 "k8s.io/api/core/v1"

// terms are those of pod affinity or of anti-affinity, which have the same form. nil has none, and nothing empty is ever returned.
type terms corev1.PodAffinity

func (t *terms) len() int {
	if t == nil {
		return 0
	}
	return len(t.RequiredDuringSchedulingIgnoredDuringExecution) + len(t.PreferredDuringSchedulingIgnoredDuringExecution)
}

// made returns terms with these, nil if there are none.
func made(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) *terms {
	if len(required)+len(preferred) == 0 {
		return nil
	}
	return &terms{
		RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred,
	}
}

// lists are both lists, also of nil.
func (t *terms) lists() ([]corev1.PodAffinityTerm, []corev1.WeightedPodAffinityTerm) {
	if t == nil {
		return nil, nil
	}
	return t.RequiredDuringSchedulingIgnoredDuringExecution, t.PreferredDuringSchedulingIgnoredDuringExecution
}

// over are those over wanted topologies.
func (t *terms) over(wanted func(topologyKey string) bool) *terms {
	required, preferred := t.lists()
	return made(
		filter(required, func(one corev1.PodAffinityTerm) bool { return wanted(one.TopologyKey) }),
		filter(preferred, func(one corev1.WeightedPodAffinityTerm) bool { return wanted(one.PodAffinityTerm.TopologyKey) }),
	)
}

// demands are those that are required.
func (t *terms) demands() *terms {
	required, _ := t.lists()
	return made(required, nil)
}

// without are those that are not in base.
func (t *terms) without(base *terms) *terms {
	required, preferred := t.lists()
	known, liked := base.lists()
	return made(without(required, known), without(preferred, liked))
}

// with are these and those of more that are not among them.
func (t *terms) with(more *terms) *terms {
	required, preferred := t.lists()
	also, liked := more.lists()
	return made(with(required, also), with(preferred, liked))
}
