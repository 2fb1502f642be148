package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ask is one question: which nodes of a cluster take a pod, with what is held there. It looks at a node in the order of
// cost: amounts in columns, then what its class says, then ports, then the pods around it.
type ask struct {
	c      *cluster
	pod    *Pod
	needs  []need
	absent bool // it needs a resource that no node has

	classes []verdictOfClass
	ports   map[int][]port // of pods on their way, by node
	blocked []domains      // that existing pods keep it out of, or that it avoids: those with a count
	near    []domains      // one a term: pods it wants to be near to
	starts  bool           // it may be the first of those that want to be near to each other
	spread  []domains      // one a constraint: pods that the constraint counts
}

// need is an amount of one resource.
type need struct {
	free   []int64 // by node
	amount int64
	device corev1.ResourceName // a device class can give it to nodes that do not list it; else ""
}

// verdictOfClass is what a class of nodes says of the pod: known once asked.
type verdictOfClass struct {
	known    bool
	reason   keys.Reason
	counting [2]memo // whether spread constraints that honor affinity, taints count the nodes
}

type memo struct{ known, yes bool }

// domains counts pods by the domains of a topology.
type domains struct {
	*topology
	count  []int
	seen   []bool // the domain has nodes that count; for spread alone
	lowest int    // count of any domain that was seen; for spread alone
}

func newDomains(t *topology) domains { return domains{topology: t, count: make([]int, t.size)} }

func (c *cluster) ask(pod *Pod) *ask {
	a := &ask{c: c, pod: pod, classes: make([]verdictOfClass, len(c.snapshot.ofClass))}
	pod.Requests.Each(func(name corev1.ResourceName, amount int64) {
		if amount <= 0 {
			return
		}
		n := need{amount: amount}
		if c.snapshot.devices[name] {
			n.device = name
		}
		column := c.room.index(name)
		switch {
		case column >= 0:
			n.free = c.room.amount[column]
			a.needs = append(a.needs, n)
		case n.device == "":
			a.absent = true
		}
	})
	if len(pod.ports) > 0 {
		a.ports = map[int][]port{}
		c.eachTenant(func(node int, t *tenant) { a.ports[node] = append(a.ports[node], t.ports...) })
	}
	a.keepAway()
	a.comeNear()
	a.evenOut()
	return a
}

// takes returns "" if the node takes the pod, else why not.
func (a *ask) takes(node int) keys.Reason {
	if !a.hasRoom(node) {
		return insufficient(a.c.room.row(node).Short(a.pod.Requests))
	}
	return a.refuses(node)
}

func (a *ask) hasRoom(node int) bool {
	for i := range a.needs {
		if n := &a.needs[i]; n.amount > n.free[node] && !n.elsewhere(a.c.snapshot.Nodes[node]) {
			return false
		}
	}
	return !a.absent
}

// elsewhere: NodeResourcesFit leaves a resource to DynamicResources where a device class can give it and the node
// has none of it to itself.
func (n *need) elsewhere(node *Node) bool {
	if n.device == "" {
		return false
	}
	return node.Allocatable.Scalars[n.device] <= 0
}

// gives reports whether a device class may have to give something to the pod: the columns cannot say whether it can.
func (s *Snapshot) gives(pod *Pod) bool {
	for name, amount := range pod.Requests.Scalars {
		if amount > 0 && s.devices[name] {
			return true
		}
	}
	return false
}

// refuses returns why a node does not take the pod whatever is free on it, or "".
func (a *ask) refuses(node int) keys.Reason {
	if reason := a.byClass(node); reason != "" {
		return reason
	}
	switch {
	case len(a.pod.ports) > 0 && (clash(a.pod.ports, a.c.snapshot.Nodes[node].portsUsed) || clash(a.pod.ports, a.ports[node])):
		return keys.HostPort
	case !a.inCompany(node):
		return keys.PodAffinity
	case !a.evenly(node):
		return keys.Spread
	default:
		return ""
	}
}

func (a *ask) byClass(node int) keys.Reason {
	if a.pod.byName {
		return a.pod.refuses(a.c.snapshot.Nodes[node])
	}
	class := &a.classes[a.c.snapshot.classes[node]]
	if !class.known {
		class.known, class.reason = true, a.pod.refuses(a.c.snapshot.Nodes[node])
	}
	return class.reason
}

// keepAway finds the domains that the pod may not enter: some pod there keeps it away, or it keeps away from some pod
// there.
func (a *ask) keepAway() {
	spaces := a.spaces()
	for _, shy := range a.c.snapshot.shyTerms() {
		if shy.term.means(&a.pod.tenant, spaces) {
			for _, node := range shy.nodes {
				a.block(node, shy.term)
			}
		}
	}
	if a.c.apart > 0 {
		a.c.eachTenant(func(node int, other *tenant) {
			for i := range other.apart {
				if other.apart[i].means(&a.pod.tenant, spaces) {
					a.block(node, &other.apart[i])
				}
			}
		})
	}
	for i := range a.pod.apart {
		t := &a.pod.apart[i]
		a.each(t.id, func(other *tenant) bool { return t.asked(other, spaces) }, func(node, _ int) { a.block(node, t) })
	}
}

// block closes the domain that a node is in.
func (a *ask) block(node int, t *term) {
	topology := a.c.snapshot.topology(t.key)
	if topology.of[node] == outside {
		return
	}
	at := slices.IndexFunc(a.blocked, func(d domains) bool { return d.topology == topology })
	if at < 0 {
		at = len(a.blocked)
		a.blocked = append(a.blocked, newDomains(topology))
	}
	a.blocked[at].count[topology.of[node]]++
}

// comeNear finds the domains that have pods which the pod wants to be near to. Those must match all of its terms.
func (a *ask) comeNear() {
	if len(a.pod.near) == 0 {
		return
	}
	spaces := a.spaces()
	means := func(other *tenant) bool {
		return !slices.ContainsFunc(a.pod.near, func(t term) bool { return !t.asked(other, spaces) })
	}
	for i := range a.pod.near {
		a.near = append(a.near, newDomains(a.c.snapshot.topology(a.pod.near[i].key)))
	}
	company := false
	a.each(nearID(a.pod.near), means, func(node, count int) {
		for _, d := range a.near {
			if domain := d.of[node]; domain != outside {
				d.count[domain] += count
				company = true
			}
		}
	})
	a.starts = !company && means(&a.pod.tenant)
}

// nearID names the pods that all of the terms mean; "" where that has no name.
func nearID(terms []term) string {
	id := "near"
	for i := range terms {
		if terms[i].id == "" {
			return ""
		}
		id += " & " + terms[i].id
	}
	return id
}

// inCompany is InterPodAffinity's filter.
func (a *ask) inCompany(node int) bool {
	together := true
	for _, d := range a.near {
		domain := d.of[node]
		if domain == outside {
			return false
		}
		together = together && d.count[domain] > 0
	}
	if !together && !a.starts {
		return false
	}
	for _, d := range a.blocked {
		if domain := d.of[node]; domain != outside && d.count[domain] > 0 {
			return false
		}
	}
	return true
}

// evenOut counts the pods of each spread constraint by domain, over the nodes that the constraint looks at.
func (a *ask) evenOut() {
	for i := range a.pod.spread {
		d := newDomains(a.c.snapshot.topology(a.pod.spread[i].key))
		d.seen = make([]bool, d.size)
		a.spread = append(a.spread, d)
	}
	for i := range a.pod.spread {
		c, d := &a.pod.spread[i], &a.spread[i]
		for node := range a.c.snapshot.Nodes {
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
	n := a.c.snapshot.Nodes[node]
	class := &a.classes[a.c.snapshot.classes[node]].counting[what]
	if !class.known || what == 0 && a.pod.byName {
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

// each calls visit for every node on which some pod matches, those on their way there included.
func (a *ask) each(id string, matches func(*tenant) bool, visit func(node, count int)) {
	for node, count := range a.c.tally(id, matches) {
		if count > 0 {
			visit(node, int(count))
		}
	}
	a.c.eachTenant(func(node int, t *tenant) {
		if matches(t) {
			visit(node, 1)
		}
	})
}

// spaces has the labels of the namespaces, that of the pod too if it does not exist yet.
func (a *ask) spaces() Namespaces {
	spaces := a.c.snapshot.namespaces
	if _, known := spaces[a.pod.namespace]; known {
		return spaces
	}
	with := make(Namespaces, len(spaces)+1)
	for name, set := range spaces {
		with[name] = set
	}
	with[a.pod.namespace] = map[string]string{corev1.LabelMetadataName: a.pod.namespace}
	return with
}

// best is the tightest node that takes the pod, -1 if none does.
func (a *ask) best(scale Resources) (node int, left float64) {
	node = -1
	measure := a.leftover(scale)
	for i := range a.c.snapshot.Nodes {
		if !a.hasRoom(i) || a.refuses(i) != "" {
			continue
		}
		if l := measure(i); node < 0 || l < left {
			node, left = i, l
		}
	}
	return node, left
}

// leftover measures what would stay free on a node after the pod: each resource as a share of the largest node of the
// pool, summed. The smaller, the tighter the fit. Pods and ephemeral storage do not shape holes and are left out.
// It is the best-fit score of Weng et al., ATC'23 (FGD), with every weight 1.
func (a *ask) leftover(scale Resources) func(node int) float64 {
	type part struct {
		free          []int64
		asked, within float64
	}
	var parts []part
	for r, name := range a.c.room.names {
		within := scale.Get(name)
		if within <= 0 || name == corev1.ResourcePods || name == corev1.ResourceEphemeralStorage {
			continue
		}
		parts = append(parts, part{free: a.c.room.amount[r], asked: float64(a.pod.Requests.Get(name)), within: float64(within)})
	}
	return func(node int) float64 {
		sum := 0.0
		for i := range parts {
			sum += (float64(parts[i].free[node]) - parts[i].asked) / parts[i].within
		}
		return sum
	}
}

// why explains a cluster in which no node takes the pod. The order of the answers is from the cause that lies
// furthest from the pod's reach to the nearest: no node may take it, the pods around do not let it in, others hold the
// room, the total is too small or fragmented.
func (a *ask) why() (keys.Reason, Resources) {
	reason, company := keys.Taint, keys.Reason("")
	unheld, closest, gap := false, -1, 0.0
	totals := make([]int64, len(a.needs))
	for i, node := range a.c.snapshot.Nodes {
		if refused := a.byClass(i); refused != "" {
			if refused == keys.NodeAffinity && closest < 0 {
				reason = refused
			}
			continue
		}
		missing := a.missing(i, totals)
		refused := a.refuses(i)
		if refused != "" && missing == 0 {
			company = refused
		}
		unheld = unheld || refused == "" && node.free.Fits(a.pod.Requests)
		if closest < 0 || missing < gap {
			closest, gap = i, missing
		}
	}
	if closest < 0 {
		return reason, Resources{}
	}
	short := a.c.room.row(closest).Short(a.pod.Requests)
	switch {
	case company != "":
		return company, short
	case unheld:
		return keys.Held, short
	case a.absent:
		return insufficient(short), short
	}
	for i := range a.needs {
		if a.needs[i].amount > totals[i] {
			return insufficient(short), short
		}
	}
	return keys.Fragmented, short
}

// missing is what a node lacks for the pod, in shares of what the pod asks for, summed. It adds what is free to totals.
func (a *ask) missing(node int, totals []int64) float64 {
	sum := 0.0
	for i := range a.needs {
		n := &a.needs[i]
		free := max(0, n.free[node])
		totals[i] = add(totals[i], free)
		if free < n.amount && !n.elsewhere(a.c.snapshot.Nodes[node]) {
			sum += float64(n.amount-free) / float64(n.amount)
		}
	}
	return sum
}
