package snapshot

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// site is a Site with what a question about it needs.
type site struct {
	*Site
	c    *cell       // nil while nothing is known of the cluster
	held []*Hold     // in the cluster, but that of the pod that asks
	mine []*LowerPod // that wait below without a hold: they are bound to the virtual node
}

// newSite looks up what is on its way to a site, if the pod wants to know.
func (p *Pool) newSite(of *Site, uid types.UID) *site {
	s := &site{Site: of, c: p.cells[of.Cluster]}
	if of.Pod.Across == nil {
		return s
	}
	if s.c == nil {
		for _, hold := range p.holds {
			if hold.Cluster == of.Cluster && hold.UID != uid {
				s.held = append(s.held, hold)
			}
		}
		return s
	}
	for _, hold := range s.c.holds {
		if hold.UID != uid {
			s.held = append(s.held, hold)
		}
	}
	for _, pod := range s.c.waiting {
		if pod.UpperUID != "" && pod.UpperUID != uid && s.c.holds[pod.UpperUID] == nil {
			s.mine = append(s.mine, pod)
		}
	}
	return s
}

// means is term.means with the labels of the cluster's namespaces; one that is not there yet will have its name as its label.
func (s *site) means(t *term, pod *tenant) bool {
	if t.id != "" || s.c != nil && s.c.Namespaces[pod.namespace] != nil { // Without an id it selects namespaces by label.
		var spaces Namespaces
		if s.c != nil {
			spaces = s.c.Namespaces
		}
		return t.means(pod, spaces)
	}
	return t.means(pod, Namespaces{pod.namespace: {corev1.LabelMetadataName: pod.namespace}})
}

func (s *site) meansAll(terms []term, pod *tenant) bool {
	for i := range terms {
		if !s.means(&terms[i], pod) {
			return false
		}
	}
	return true
}

// count is the number of pods that match on the nodes that take part, or on their way there.
func (s *site) count(id string, matches func(*tenant) bool) int {
	count := s.coming(matches, nil)
	if s.c == nil {
		return count
	}
	for row, on := range s.c.tally(id, matches) {
		if on > 0 && s.Pod.Part.takes(s.c.nodes[row]) {
			count += int(on)
		}
	}
	return count
}

// coming is the number of pods that match and are on their way: to rows that count, or to some node that is not known.
func (s *site) coming(matches func(*tenant) bool, counts func(row int) bool) (count int) {
	for _, hold := range s.held {
		if !matches(&hold.pod.tenant) {
			continue
		}
		if s.c != nil && counts != nil {
			if row, there := s.c.rows[hold.Node]; there && !counts(row) {
				continue
			}
		}
		count++
	}
	for _, pod := range s.mine {
		if matches(&pod.tenant) {
			count++
		}
	}
	return count
}

// counted is the number of pods that a spread constraint counts; counts is false where it looks at no node.
func (s *site) counted(c *constraint) (count int, counts bool) {
	demands := s.Pod.Across
	if c.honorAffinity && (s.Fenced || !demands.clusters.Matches(s.Labels)) || c.honorTaints && s.Unusable {
		return 0, false
	}
	matches := func(other *tenant) bool { return c.counts(s.Pod.namespace, other) }
	if s.c == nil { // Its pods that run are held until they are seen: it is likely to be a domain.
		return s.coming(matches, nil), !s.Unusable
	}
	covered := s.coverage(c)
	if covered.empty() {
		return 0, false
	}
	for row, on := range s.c.tally("spread "+c.id, matches) {
		if on > 0 && covered.has(row) {
			count += int(on)
		}
	}
	return count + s.coming(matches, covered.has), true
}

// coverage is the rows that a spread constraint looks at: those that take part, with the affinity and taints that the constraint wants
// honored, and with the labels that spread within the cluster wants.
type coverage struct {
	*site
	constraint *constraint
	byNode     bool // classes do not tell nodes apart that the pod's affinity does
	classes    []bool
	within     []*topology
}

func (s *site) coverage(of *constraint) *coverage {
	v := &coverage{site: s, constraint: of}
	v.byNode = of.honorAffinity && (s.Pod.byName || !s.c.tellApart(s.Pod.labelsAsked))
	for i := range s.Pod.spread {
		v.within = append(v.within, s.c.topology(s.Pod.spread[i].key))
	}
	v.classes = make([]bool, len(s.c.classes))
	for i, class := range s.c.classes {
		v.classes[i] = !v.byNode && v.honors(class.sample)
	}
	return v
}

func (v *coverage) honors(node *Node) bool {
	if v.constraint.honorAffinity {
		if ok, _ := v.Pod.affinity.Match(node.Object); !ok {
			return false
		}
	}
	return !v.constraint.honorTaints || !v.Pod.tainted(node)
}

func (v *coverage) has(row int) bool {
	for _, t := range v.within {
		if t.of[row] == outside {
			return false
		}
	}
	node := v.c.nodes[row]
	if v.byNode {
		return v.honors(node) && v.Pod.Part.takes(node)
	}
	return v.classes[v.c.class[row].at] && v.Pod.Part.takes(node)
}

// empty reports whether there is no such row.
func (v *coverage) empty() bool {
	if !v.byNode && len(v.within) == 0 && v.Pod.Part.Nodes == nil { // Each class has a node.
		return !slices.Contains(v.classes, true)
	}
	return !slices.ContainsFunc(v.c.inOrder(), v.has)
}

// tallied names the pods that a term means, for counters.
func (t *term) tallied() string {
	if t.id != "" {
		return t.id
	}
	return fmt.Sprintf("%q among %v %t %v %t", t.namespaces, t.among, t.among.Empty(), t.pods, t.pods.Empty())
}

func talliedAll(terms []term) string {
	ids := []string{"near"}
	for i := range terms {
		ids = append(ids, terms[i].tallied())
	}
	return strings.Join(ids, " & ")
}
