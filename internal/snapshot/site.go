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
	looksAt, counts := s.looksAt(c)
	if !counts {
		return 0, false
	}
	for row, on := range s.c.tally("spread "+c.id, matches) {
		if on > 0 && looksAt(row) {
			count += int(on)
		}
	}
	return count + s.coming(matches, looksAt), true
}

// looksAt returns whether a spread constraint looks at a row: one that takes part, with the affinity and taints that the constraint wants
// honored, and with the labels that spread within the cluster wants. some is false if there is no such row.
func (s *site) looksAt(k *constraint) (looksAt func(row int) bool, some bool) {
	c, pod := s.c, s.Pod
	byNode := k.honorAffinity && (pod.byName || !c.tellApart(pod.labelsAsked))
	var within []*topology
	for i := range pod.spread {
		within = append(within, c.topology(pod.spread[i].key))
	}
	looks := func(node *Node) bool {
		if k.honorAffinity {
			if ok, _ := pod.affinity.Match(node.Object); !ok {
				return false
			}
		}
		return !k.honorTaints || !pod.tainted(node)
	}
	classes := make([]bool, len(c.classes))
	for i, of := range c.classes {
		classes[i] = !byNode && looks(of.sample)
		some = some || classes[i]
	}
	looksAt = func(row int) bool {
		for _, t := range within {
			if t.of[row] == outside {
				return false
			}
		}
		if byNode && !looks(c.nodes[row]) || !byNode && !classes[c.class[row].at] {
			return false
		}
		return pod.Part.takes(c.nodes[row])
	}
	if byNode || some && (len(within) > 0 || pod.Part.Nodes != nil) { // Classes do not tell.
		some = slices.ContainsFunc(c.inOrder(), looksAt)
	}
	return looksAt, some
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
