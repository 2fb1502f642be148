package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// scores are what kube-scheduler's Score plugins say of the nodes of a cluster that take a pod, before NormalizeScore: that looks at
// all nodes of the pool, so it is for Weigh.
type scores struct {
	entries []entry
	spread  []counted // one a ScheduleAnyway constraint
	above   []sum     // InterPodAffinity over labels of virtual nodes: what the pods here add to their domain
	nodes   bool      // the pod has preferred node affinity
}

// entry is nodes that the plugins say the same of, and the best of them by what is left. Raw scores:
//
//	taints    PreferNoSchedule taints that the pod does not tolerate (TaintToleration)
//	affinity  weights of the preferred node affinity terms that match (NodeAffinity)
//	pods      sum over topology keys of what the pods of the node's domain add: weights of the pod's preferred terms that mean them,
//	          less those of its anti-affinity terms; weights of their terms that mean the pod, in the same way; 1 for each of
//	          their required affinity terms that does (InterPodAffinity, hardPodAffinityWeight)
//	counts    matching pods of the node's domain, for each constraint; nil on nodes that lack a label of one (PodTopologySpread)
type entry struct {
	taints, affinity, pods int64
	counts                 []int64

	row  int32
	node string
	left left
}

// counted is what a cluster knows of a constraint: of lower nodes, in how many domains there are nodes that take the pod; of clusters,
// how many pods here match.
type counted struct {
	key     string
	above   bool
	maxSkew int64
	domains int
	pods    int64
}

type sum struct {
	key string
	of  int64
}

// scorer finds the scores of a cluster. It looks at the nodes in domains with pods that matter one by one, and of the others at
// the first of each class and domain.
type scorer struct {
	a      *ask
	scores *scores
	dims   []*dimension // what tells apart nodes of one class
	known  []*entry     // by class: taints and affinity
}

// scorer prepares the question; nil where nothing is preferred that could tell nodes or clusters apart.
func (a *ask) scorer() *scorer {
	idle := a.pod.prefersNothing()
	if idle && a.c.draws.empty() && a.c.drawing == 0 && !a.c.discouraged() {
		return nil
	}
	s := &scorer{a: a, scores: &scores{nodes: a.pod.prefersNodes()}, known: make([]*entry, len(a.c.classes))}
	s.drawn()
	s.spreadOut()
	if idle && len(s.dims)+len(s.scores.above) == 0 && !a.c.discouraged() {
		return nil
	}
	return s
}

// discouraged reports whether some node has a PreferNoSchedule taint.
func (c *cell) discouraged() bool {
	return slices.ContainsFunc(c.classes, func(of *class) bool {
		return slices.ContainsFunc(of.sample.Object.Spec.Taints, func(t corev1.Taint) bool {
			return t.Effect == corev1.TaintEffectPreferNoSchedule
		})
	})
}

// drawn is InterPodAffinity.
func (s *scorer) drawn() {
	a := s.a
	for i := range a.pod.preferred.pods {
		t := &a.pod.preferred.pods[i]
		asked := func(other *tenant) bool { return t.asked(other, a.spaces(), a.c.Version) }
		if t.above {
			s.addAbove(t.key, t.weight*s.ours(t.id, asked, nil))
		} else {
			a.each(t.id, asked, func(row, count int) { s.draw(t, row, t.weight*int64(count)) })
		}
	}
	a.c.draws.about(&a.pod.tenant, func(t *term, rows map[int32]int32) {
		if t.means(&a.pod.tenant, a.spaces()) {
			for row, count := range rows {
				s.draw(t, int(row), t.weight*int64(count))
			}
		}
	})
	if a.c.drawing == 0 {
		return
	}
	a.c.eachTenant(func(row int, other *tenant) {
		for i := range other.draws {
			if t := &other.draws[i]; t.means(&a.pod.tenant, a.spaces()) {
				s.draw(t, row, t.weight)
			}
		}
	})
}

// draw adds to the value of the domain that a row is in.
func (s *scorer) draw(t *term, row int, weight int64) {
	if t.above {
		if s.takesPart(row) {
			s.addAbove(t.key, weight)
		}
		return
	}
	key := t.key
	at := slices.IndexFunc(s.dims, func(d *dimension) bool { return d.key == key })
	if at < 0 {
		at = len(s.dims)
		s.addDimension(key, -1)
	}
	s.dims[at].add(row, weight)
}

func (s *scorer) addAbove(key string, weight int64) {
	at := slices.IndexFunc(s.scores.above, func(known sum) bool { return known.key == key })
	if at < 0 {
		at = len(s.scores.above)
		s.scores.above = append(s.scores.above, sum{key: key})
	}
	s.scores.above[at].of += weight
}

// takesPart reports whether a row is of the part of the cluster that the pod's virtual node stands for.
func (s *scorer) takesPart(row int) bool { return s.a.pod.Part.takes(s.a.c.nodes[row]) }

// ours counts pods of ours here, on nodes that count.
func (s *scorer) ours(id string, matches func(*tenant) bool, counts func(row int) bool) (total int64) {
	if id != "" {
		id = "ours " + id
	}
	s.a.each(id, func(other *tenant) bool { return other.ours && matches(other) }, func(row, count int) {
		if s.takesPart(row) && (counts == nil || counts(row)) {
			total += int64(count)
		}
	})
	return total
}

// spreadOut is PodTopologySpread. A constraint counts the pods on nodes with the labels of all constraints, and with the affinity and
// taints that it wants honored; by host name, those on the node.
func (s *scorer) spreadOut() {
	a, first := s.a, len(s.dims)
	constraints := a.pod.preferred.spread
	s.scores.spread = make([]counted, len(constraints))
	for i := range constraints {
		c := &constraints[i]
		s.scores.spread[i] = counted{key: c.key, above: c.above, maxSkew: int64(c.maxSkew)}
		if !c.above {
			s.addDimension(c.key, i)
		}
	}
	dims := s.dims[first:]
	labelled := func(row int) bool {
		return !slices.ContainsFunc(dims, func(d *dimension) bool { return d.of[row] == outside })
	}
	next := 0
	for i := range constraints {
		c := &constraints[i]
		id, matches := "spread "+c.id, func(other *tenant) bool { return c.counts(a.pod.namespace, other) }
		counts := func(row int) bool {
			return labelled(row) && (!c.honorAffinity || a.counting(row, 0)) && (!c.honorTaints || a.counting(row, 1))
		}
		if c.above {
			s.scores.spread[i].pods = s.ours(id, matches, counts)
			continue
		}
		d := dims[next]
		next++
		a.each(id, matches, func(row, count int) {
			if d.byRow || counts(row) {
				d.add(row, int64(count))
			}
		})
	}
}

// all finds the scores of the nodes that take the pod.
func (s *scorer) all() *scores {
	if s.a.absent {
		return s.scores
	}
	coarse := s.coarse()
	apart := s.apart()
	for row, yes := range apart {
		if yes && s.takes(row) {
			s.takeOne(row)
		}
	}
	s.takeFirsts(coarse, apart)
	s.countDomains()
	for i := range s.scores.entries {
		e := &s.scores.entries[i]
		e.node, e.left = s.a.c.nodes[e.row].Name(), s.a.left(int(e.row))
	}
	return s.scores
}

func (s *scorer) takes(row int) bool {
	return s.a.c.nodes[row] != nil && s.a.hasRoom(row) && s.a.refuses(row) == ""
}

// takeOne takes a row into an entry of nodes like it.
func (s *scorer) takeOne(row int) {
	e := s.newEntry(row)
	for i := range s.scores.entries[:min(len(s.scores.entries), mostDomains)] {
		if known := &s.scores.entries[i]; known.alike(&e) {
			if s.a.better(e.row, known.row) {
				known.row = e.row
			}
			return
		}
	}
	s.scores.entries = append(s.scores.entries, e)
}

func (e *entry) alike(other *entry) bool {
	return e.taints == other.taints && e.affinity == other.affinity && e.pods == other.pods &&
		(e.counts == nil) == (other.counts == nil) && slices.Equal(e.counts, other.counts)
}

// newEntry is what the plugins say of one row.
func (s *scorer) newEntry(row int) entry {
	e := s.ofClass(row)
	if len(s.scores.spread) > 0 && s.labelled(row) && s.labelledAbove() {
		e.counts = make([]int64, len(s.scores.spread))
	}
	for _, d := range s.dims {
		domain := d.domain(row)
		switch {
		case domain == outside:
		case d.spread < 0:
			e.pods += d.value[domain]
		case e.counts != nil:
			e.counts[d.spread] = d.value[domain]
			d.seen[domain] = true
		}
	}
	return e
}

// labelledAbove reports whether the virtual node has the labels of all constraints over such.
func (s *scorer) labelledAbove() bool {
	return !slices.ContainsFunc(s.scores.spread, func(c counted) bool {
		_, has := s.a.pod.Above.Labels[c.key]
		return !has && c.above
	})
}

// ofClass is what the plugins say of a row's class, or of the row itself where preferred node affinity tells apart nodes of one class.
func (s *scorer) ofClass(row int) entry {
	class, pod := s.a.c.class[row], s.a.pod
	if known := s.known[class.at]; known != nil && !s.a.prefersByNode {
		e := *known
		e.row = int32(row)
		return e
	}
	node := s.a.c.nodes[row].Object
	e := entry{affinity: pod.Above.Nodes, row: int32(row)}
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !pod.tolerates(t) {
			e.taints++
		}
	}
	if pod.preferred.nodes != nil {
		e.affinity += pod.preferred.nodes.Score(node)
	}
	known := e
	s.known[class.at] = &known
	return e
}

// anyRow is one that takes the pod, or -1.
func (s *scores) anyRow() int {
	if len(s.entries) == 0 {
		return -1
	}
	return int(s.entries[0].row)
}
