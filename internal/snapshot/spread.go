package snapshot

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// constraint is a topology spread constraint.
type constraint struct {
	key                         string // of the topology
	pods                        labels.Selector
	maxSkew, minDomains         int
	honorAffinity, honorTaints  bool
	id                          string // equal for equal selectors in one namespace
	matchesItself, countsNobody bool
	above                       bool // the topology is that of virtual nodes
}

// newConstraints reads the constraints of a pod that forbid, or that prefer; ok is false where a selector cannot be read.
func newConstraints(pod *corev1.Pod, action corev1.UnsatisfiableConstraintAction) (constraints []constraint, ok bool) {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != action {
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
	return !c.countsNobody && !pod.terminating && pod.namespace == namespace && c.pods.Matches(pod)
}

// evenOut counts the pods of each spread constraint by domain, over the nodes that the constraint looks at.
func (a *ask) evenOut() {
	for i := range a.pod.spread {
		d := newDomains(a.c.topology(a.pod.spread[i].key))
		d.seen = make([]bool, d.size)
		a.spread = append(a.spread, d)
	}
	for i := range a.pod.spread {
		c, d := &a.pod.spread[i], &a.spread[i]
		for _, node := range a.c.inOrder() {
			if a.counts(node, c) {
				d.seen[d.of[node]] = true
			}
		}
		matches := func(other *tenant) bool { return c.counts(a.pod.namespace, other) }
		a.each("spread "+c.id, matches, func(node, count int) {
			if a.counts(node, c) {
				d.count[d.of[node]] += count
			}
		})
		d.settle(c.minDomains)
	}
}

// settle finds the lowest count; with too few domains it is zero.
func (d *domains) settle(minDomains int) {
	found := 0
	for domain, seen := range d.seen {
		if seen {
			if found == 0 || d.count[domain] < d.lowest {
				d.lowest = d.count[domain]
			}
			found++
		}
	}
	if found < minDomains {
		d.lowest = 0
	}
}

// counts reports whether a spread constraint looks at a node: one with the labels of all constraints, and with the
// affinity and taints that the constraint wants honored.
func (a *ask) counts(node int, c *constraint) bool {
	for _, d := range a.spread {
		if d.of[node] == outside {
			return false
		}
	}
	return (!c.honorAffinity || a.counting(node, 0)) && (!c.honorTaints || a.counting(node, 1))
}

func (a *ask) counting(node, what int) bool {
	n := a.c.nodes[node]
	class := &a.classes[a.c.class[node].at].counting[what]
	if !class.known || what == 0 && a.byNode {
		class.known = true
		if what == 0 {
			class.yes, _ = a.pod.affinity.Match(n.Object)
		} else {
			class.yes = !a.pod.tainted(n)
		}
	}
	return class.yes
}

// evenly is PodTopologySpread's filter.
func (a *ask) evenly(node int) bool {
	for i, d := range a.spread {
		domain := d.of[node]
		if domain == outside {
			return false
		}
		with := d.count[domain]
		if a.pod.spread[i].matchesItself {
			with++
		}
		if with-d.lowest > a.pod.spread[i].maxSkew {
			return false
		}
	}
	return true
}
