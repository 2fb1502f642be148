package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Across is what a pod demands of other pods over all clusters: required affinity and anti-affinity and DoNotSchedule spread whose
// topology keys are labels of virtual nodes. No scheduler of one cluster can see to it.
type Across struct {
	near, apart []term
	spread      []constraint
	clusters    labels.Selector // what its node selector asks of virtual nodes
	malformed   bool            // a selector cannot be read
}

// NewAcross reads translate.DemandsOverClusters; nil is nothing.
func NewAcross(pod *corev1.Pod) *Across {
	if pod == nil {
		return nil
	}
	a := &Across{clusters: labels.SelectorFromSet(pod.Spec.NodeSelector)}
	nearOK, apartOK := true, true
	if affinity := pod.Spec.Affinity; affinity != nil {
		if affinity.PodAffinity != nil {
			a.near, nearOK = newTerms(pod.Namespace, affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
		if affinity.PodAntiAffinity != nil {
			a.apart, apartOK = newTerms(pod.Namespace, affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
	}
	var spreadOK bool
	a.spread, spreadOK = newConstraints(pod, corev1.DoNotSchedule)
	a.malformed = !nearOK || !apartOK || !spreadOK
	return a
}

// Site is a virtual node and a pod as it comes through it.
type Site struct {
	Cluster string
	// Labels are those of the virtual node.
	Labels labels.Set
	// Pod is nil where it cannot be read what it would be.
	Pod *Pod
	// Unusable: the virtual node takes no new pods. Fenced: the pod's namespace keeps its pods off it, as a node selector would.
	Unusable, Fenced bool
}

// JudgedAcross reports whether pods of other clusters may have a word in where the pod goes.
func (p *Pool) JudgedAcross(pod *Pod) bool { return pod.Across != nil || len(p.anti.pods) > 0 }

// Across says of each site, which have to be all there are, why the pod may not go there for the pods that are, or will be, in all of
// them; "" where it may. It is what PodTopologySpread and InterPodAffinity say where all lower nodes are one cluster's and carry the
// labels of their virtual nodes beside their own.
//
// The hold of uid does not count. A cluster of which nothing is known yet counts with the pods that are held there.
func (p *Pool) Across(sites []Site, uid types.UID) []keys.Reason {
	defer p.anti.lift(uid)()
	q := &across{blocked: map[place]bool{}}
	for i := range sites {
		if sites[i].Pod == nil {
			continue
		}
		s := p.newSite(&sites[i], uid)
		q.sites = append(q.sites, s)
		if s.Pod.Across != nil {
			q.asked = s.Pod.Across
		}
	}
	q.keepAway(&p.anti)
	if q.asked != nil {
		q.comeNear()
		q.evenOut()
	}
	refused := make([]keys.Reason, len(sites))
	at := 0
	for i := range sites {
		refused[i] = keys.NodeAffinity // As of a pod that cannot be read.
		if sites[i].Pod != nil {
			refused[i] = q.refuses(q.sites[at])
			at++
		}
	}
	return refused
}

// place is a domain over clusters: a label of virtual nodes with one of its values.
type place struct{ key, value string }

// across is a question about all clusters. The demands are the same of all, but for the names of namespaces below: asked is any of them.
type across struct {
	sites   []*site
	asked   *Across
	blocked map[place]bool   // where pods keep the pod away, or it keeps away from some
	near    []map[string]int // one a term: pods it wants to be near to, by value of the key
	company bool             // there are such pods at all
	spread  []evenness       // one a constraint
}

// evenness is the pods that a constraint counts, by value of its key; only domains with a node that counts are in it.
type evenness struct {
	count  map[string]int
	lowest int
}

// keepAway finds the domains that pods keep each other out of.
func (q *across) keepAway(anti *antiAffinity) {
	for _, s := range q.sites {
		anti.about(s.Cluster, &s.Pod.tenant, func(t *term) {
			if value, labelled := s.Labels[t.key]; labelled && s.means(t, &s.Pod.tenant) {
				q.blocked[place{t.key, value}] = true
			}
		})
		if s.Pod.Across == nil {
			continue
		}
		for i := range s.Pod.Across.apart {
			t := &s.Pod.Across.apart[i]
			at := place{t.key, s.Labels[t.key]}
			if _, labelled := s.Labels[t.key]; !labelled || q.blocked[at] {
				continue
			}
			if s.count(t.tallied(), func(other *tenant) bool { return s.means(t, other) }) > 0 {
				q.blocked[at] = true
			}
		}
	}
}

// comeNear counts, by domain, the pods that all terms of affinity mean.
func (q *across) comeNear() {
	q.near = make([]map[string]int, len(q.asked.near))
	for i := range q.near {
		q.near[i] = map[string]int{}
	}
	if len(q.near) == 0 {
		return
	}
	for _, s := range q.sites {
		if s.Pod.Across == nil {
			continue
		}
		terms := s.Pod.Across.near
		count := s.count(talliedAll(terms), func(other *tenant) bool { return s.meansAll(terms, other) })
		if count == 0 {
			continue
		}
		for i := range terms {
			if value, labelled := s.Labels[terms[i].key]; labelled {
				q.near[i][value] += count
				q.company = true
			}
		}
	}
}

// evenOut counts the pods of each spread constraint by domain.
func (q *across) evenOut() {
	for i := range q.asked.spread {
		e := evenness{count: map[string]int{}}
		for _, s := range q.sites {
			if s.Pod.Across == nil || !s.labelledFor(q.asked.spread) {
				continue
			}
			if count, counts := s.counted(&s.Pod.Across.spread[i]); counts {
				e.count[s.Labels[q.asked.spread[i].key]] += count
			}
		}
		first := true
		for _, count := range e.count {
			if first || count < e.lowest {
				e.lowest, first = count, false
			}
		}
		if len(e.count) < q.asked.spread[i].minDomains {
			e.lowest = 0
		}
		q.spread = append(q.spread, e)
	}
}

// refuses returns why the pod may not go to a site, or "".
func (q *across) refuses(s *site) keys.Reason {
	demands := s.Pod.Across
	switch {
	case demands != nil && demands.malformed:
		return keys.NodeAffinity
	case q.keptOut(s) || demands != nil && !q.inCompany(s, demands):
		return keys.PodAffinity
	case demands != nil && !q.evenly(s, demands):
		return keys.Spread
	default:
		return ""
	}
}

func (q *across) keptOut(s *site) bool {
	if len(q.blocked) == 0 {
		return false
	}
	for key, value := range s.Labels {
		if q.blocked[place{key, value}] {
			return true
		}
	}
	return false
}

// inCompany: each term has pods in the site's domain, or the pod is the first of those that want to be near to each other.
func (q *across) inCompany(s *site, demands *Across) bool {
	together := true
	for i := range demands.near {
		value, labelled := s.Labels[demands.near[i].key]
		if !labelled {
			return false
		}
		together = together && q.near[i][value] > 0
	}
	return together || !q.company && s.meansAll(demands.near, &s.Pod.tenant)
}

func (q *across) evenly(s *site, demands *Across) bool {
	for i := range demands.spread {
		c := &demands.spread[i]
		value, labelled := s.Labels[c.key]
		if !labelled {
			return false
		}
		with := q.spread[i].count[value]
		if c.matchesItself {
			with++
		}
		if with-q.spread[i].lowest > c.maxSkew {
			return false
		}
	}
	return true
}

// labelledFor reports whether a site has the labels of all constraints: one that has not counts for none.
func (s *site) labelledFor(constraints []constraint) bool {
	return !slices.ContainsFunc(constraints, func(c constraint) bool {
		_, labelled := s.Labels[c.key]
		return !labelled
	})
}
