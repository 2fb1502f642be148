package snapshot

import (
	"math"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
)

// The weights of kube-scheduler's Score plugins in its default profile, and the highest score that each of them gives.
const (
	weightTaintToleration   = 3
	weightNodeAffinity      = 2
	weightInterPodAffinity  = 2
	weightPodTopologySpread = 2
	maxNodeScore            = 100
)

// Weigh lets the preferences of a pod decide between nodes and clusters, as if all nodes that take it were in one cluster: of each
// verdict it finds the node that is best then, and Preference. They are one pod's, of all virtual nodes that it may go to. Where
// nobody prefers anything they stay as they are.
//
// With raw scores as they stand at entry, and their limits over all nodes that take the pod:
//
//	TaintToleration    100 - 100 taints / max                                                 (DefaultNormalizeScore, reversed)
//	NodeAffinity       100 affinity / max                                                     (DefaultNormalizeScore)
//	InterPodAffinity   100 (pods - min) / (max - min)                                         (NormalizeScore)
//	PodTopologySpread  s = round(sum over constraints of count log(domains + 2) + maxSkew - 1)       (scoreForCount)
//	                   100 (max + min - s) / max; 0 on nodes that lack a label of a constraint       (NormalizeScore)
//
//	Preference = 3 TaintToleration + 2 NodeAffinity + 2 InterPodAffinity + 2 PodTopologySpread, each cut to a whole number
//
// A label of a virtual node is a domain as one of lower nodes is: all lower nodes behind the virtual node are in it.
func Weigh(verdicts []*Verdict) {
	n := newNormal(verdicts)
	if n == nil {
		return
	}
	for _, v := range verdicts {
		if !v.candidate() {
			continue
		}
		entries := v.entries()
		best, most := &entries[0], n.total(v, &entries[0])
		for i := range entries {
			if e, total := &entries[i], n.total(v, &entries[i]); total > most || total == most && compareLeft(e.left, best.left) < 0 {
				best, most = e, total
			}
		}
		v.Node, v.left, v.Preference = best.node, best.left, most
		v.Leftover = v.left.over
	}
}

// candidate reports whether preferences decide about a cluster: not where room is reserved for the pod.
func (v *Verdict) candidate() bool { return v.Fits && !v.reserved }

// entries are those of a cluster that takes the pod. Of one in which nobody prefers anything, the best node stands for all.
func (v *Verdict) entries() []entry {
	if v.scores != nil {
		return v.scores.entries
	}
	return []entry{{node: v.Node, left: v.left}}
}

// normal is what NormalizeScore of the plugins looks at: limits over all nodes that take a pod.
type normal struct {
	taints, affinity         int64 // the highest
	podsLeast, podsMost      int64
	spreadLeast, spreadMost  int64
	affinityAsked, spreading bool

	weights []float64                   // of the constraints
	counts  []map[string]int64          // of constraints over labels of virtual nodes: matching pods by the label's value
	above   map[string]map[string]int64 // InterPodAffinity over labels of virtual nodes: by label and value
}

// newNormal returns nil where nobody prefers anything.
func newNormal(verdicts []*Verdict) *normal {
	n := &normal{podsLeast: math.MaxInt64, podsMost: math.MinInt64, spreadLeast: math.MaxInt64, above: map[string]map[string]int64{}}
	some := false
	for _, v := range verdicts {
		if v.scores != nil {
			some = true
			n.gather(v)
		}
	}
	if !some {
		return nil
	}
	n.weigh(verdicts)
	for _, v := range verdicts {
		if !v.candidate() {
			continue
		}
		entries := v.entries()
		for i := range entries {
			n.widen(v, &entries[i])
		}
	}
	return n
}

// gather adds what a cluster has to the domains of labels of virtual nodes, whether it takes the pod or not.
func (n *normal) gather(v *Verdict) {
	s := v.scores
	n.affinityAsked = n.affinityAsked || s.nodes
	n.spreading = n.spreading || len(s.spread) > 0
	for _, part := range s.above {
		if value, ok := v.labels[part.key]; ok {
			if n.above[part.key] == nil {
				n.above[part.key] = map[string]int64{}
			}
			n.above[part.key][value] += part.of
		}
	}
	for len(n.counts) < len(s.spread) {
		n.counts = append(n.counts, map[string]int64{})
	}
	for i, c := range s.spread {
		if value, ok := v.labels[c.key]; ok && c.above {
			n.counts[i][value] += c.pods
		}
	}
}

// weigh finds the weights of the constraints: the logarithm of the number of domains with nodes that take the pod, and 2.
func (n *normal) weigh(verdicts []*Verdict) {
	n.weights = make([]float64, len(n.counts))
	found := map[string]bool{}
	for _, v := range verdicts {
		if !v.candidate() || v.scores == nil || !slices.ContainsFunc(v.scores.entries, func(e entry) bool { return e.counts != nil }) {
			continue
		}
		for i, c := range v.scores.spread {
			switch domain := strconv.Itoa(i) + "=" + v.labels[c.key]; {
			case !c.above:
				n.weights[i] += float64(c.domains)
			case !found[domain]:
				found[domain] = true
				n.weights[i]++
			}
		}
	}
	for i, domains := range n.weights {
		n.weights[i] = math.Log(domains + 2)
	}
}

// widen lets the limits reach an entry.
func (n *normal) widen(v *Verdict, e *entry) {
	n.taints, n.affinity = max(n.taints, e.taints), max(n.affinity, e.affinity)
	pods := n.pods(v, e)
	n.podsLeast, n.podsMost = min(n.podsLeast, pods), max(n.podsMost, pods)
	if e.counts != nil {
		spread := n.spread(v, e)
		n.spreadLeast, n.spreadMost = min(n.spreadLeast, spread), max(n.spreadMost, spread)
	}
}

// pods is the raw score of InterPodAffinity.
func (n *normal) pods(v *Verdict, e *entry) int64 {
	pods := e.pods
	for key, byValue := range n.above {
		if value, ok := v.labels[key]; ok {
			pods += byValue[value]
		}
	}
	return pods
}

// spread is the raw score of PodTopologySpread.
func (n *normal) spread(v *Verdict, e *entry) int64 {
	sum := 0.0
	for i, c := range v.scores.spread {
		count := e.counts[i]
		if c.above {
			count = n.counts[i][v.labels[c.key]]
		}
		sum += float64(count)*n.weights[i] + float64(c.maxSkew-1)
	}
	return int64(math.Round(sum))
}

// total is the Preference of an entry.
func (n *normal) total(v *Verdict, e *entry) int64 {
	total := int64(weightTaintToleration * maxNodeScore)
	if n.taints > 0 {
		total = weightTaintToleration * (maxNodeScore - maxNodeScore*e.taints/n.taints)
	}
	if n.affinityAsked && n.affinity > 0 {
		total += weightNodeAffinity * (maxNodeScore * e.affinity / n.affinity)
	}
	if wide := n.podsMost - n.podsLeast; wide > 0 {
		total += weightInterPodAffinity * int64(maxNodeScore*(float64(n.pods(v, e)-n.podsLeast)/float64(wide)))
	}
	switch {
	case !n.spreading || e.counts == nil:
	case n.spreadMost == 0:
		total += weightPodTopologySpread * maxNodeScore
	default:
		total += weightPodTopologySpread * (maxNodeScore * (n.spreadMost + n.spreadLeast - n.spread(v, e)) / n.spreadMost)
	}
	return total
}

// Preferences says of every node that takes a pod how much it is preferred, see Weigh, by cluster and node; nil where nobody prefers
// anything. The pods are one, as it comes to each cluster.
func (p *Pool) Preferences(pods map[string]*Pod, uid types.UID) map[string]map[string]int64 {
	scorers, asks, verdicts := map[string]*scorer{}, map[string]*ask{}, map[string]*Verdict{}
	for name, pod := range pods {
		c := p.cells[name]
		if c == nil {
			continue
		}
		defer p.lift(c, uid)()
		a := c.ask(pod, &p.scale)
		asks[name], scorers[name], verdicts[name] = a, a.scorer(), &Verdict{Cluster: name, labels: pod.Above.Labels}
		if s := scorers[name]; s != nil {
			verdicts[name].scores = s.all()
			verdicts[name].Fits = len(s.scores.entries) > 0
		} else {
			verdicts[name].Fits = a.best() >= 0
		}
	}
	var all []*Verdict
	for _, v := range verdicts {
		all = append(all, v)
	}
	n := newNormal(all)
	if n == nil {
		return nil
	}
	preferred := map[string]map[string]int64{}
	for name, a := range asks {
		preferred[name] = map[string]int64{}
		for _, row := range a.c.inOrder() {
			if a.takes(row) != "" {
				continue
			}
			of := &entry{}
			if s := scorers[name]; s != nil {
				counted := s.newEntry(row)
				of = &counted
			}
			preferred[name][a.c.nodes[row].Name()] = n.total(verdicts[name], of)
		}
	}
	return preferred
}
