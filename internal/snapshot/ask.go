package snapshot

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ask is one question: which nodes of a cluster take a pod, with what is held there. It looks at a node in the order of
// cost: amounts in columns, then what its class says, then ports, then the pods around it.
type ask struct {
	c      *cell
	pod    *Pod
	needs  []need
	absent bool // it needs a resource that no node has
	byNode bool // what the pod asks of a node tells nodes of one class apart
	roomy  bool // see asksNothing
	// prefersByNode: what it prefers of a node tells nodes of one class apart.
	prefersByNode bool

	classes []verdictOfClass
	turned  map[int]bool   // nodes whose kubelets have refused such pods lately
	ports   map[int][]port // of pods on their way, by node
	blocked []domains      // that existing pods keep it out of, or that it avoids: those with a count
	near    []domains      // one a term: pods it wants to be near to
	with    Namespaces     // see spaces
	starts  bool           // it may be the first of those that want to be near to each other
	spread  []domains      // one a constraint: pods that the constraint counts
}

// need is an amount of one resource.
type need struct {
	name   corev1.ResourceName
	column int
	free   []int64 // by row
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

// ask prepares a question; leftover counts by the scale.
func (c *cell) ask(pod *Pod, scale *scale) *ask {
	byNode := pod.byName || !c.tellApart(pod.labelsAsked)
	prefersByNode := pod.preferred.byName || !c.tellApart(pod.preferred.labels)
	c.arrange(scale)
	byNode = byNode || !c.tellsApart(pod.labelsAsked) // Arranging may have given labels up.
	prefersByNode = prefersByNode || !c.tellsApart(pod.preferred.labels)
	a := &ask{
		c: c, pod: pod, byNode: byNode, prefersByNode: prefersByNode, roomy: pod.asksNothing(), classes: make([]verdictOfClass, len(c.classes)),
		turned: c.refusing(pod),
	}
	a.needs = make([]need, 0, len(pod.needs))
	for _, amount := range pod.needs {
		n := need{name: amount.name, column: c.room.index(amount.name), amount: amount.of}
		if c.Devices[n.name] {
			n.device = n.name
		}
		switch {
		case n.column >= 0:
			n.free = c.room.amount[n.column]
			a.needs = append(a.needs, n)
		case n.device == "":
			a.absent = true
		}
	}
	if len(pod.ports) > 0 {
		a.ports = map[int][]port{}
		c.eachTenant(func(row int, t *tenant) { a.ports[row] = append(a.ports[row], t.ports...) })
	}
	a.keepAway()
	a.comeNear()
	a.evenOut()
	return a
}

// simple reports whether resources and what the nodes themselves are decide alone.
func (a *ask) simple() bool {
	return len(a.pod.ports)+len(a.blocked)+len(a.near)+len(a.spread)+len(a.turned) == 0
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
		if n := &a.needs[i]; n.amount > n.free[node] && !n.elsewhere(a.c.nodes[node]) {
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

// refuses returns why a node does not take the pod whatever is free on it, or "".
func (a *ask) refuses(node int) keys.Reason {
	if reason := a.byClass(node); reason != "" {
		return reason
	}
	switch {
	case a.turned[node]:
		return keys.Avoided
	case len(a.pod.ports) > 0 && (clash(a.pod.ports, a.c.nodes[node].portsUsed) || clash(a.pod.ports, a.ports[node])):
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
	if a.byNode {
		return a.pod.refuses(a.c.nodes[node])
	}
	return a.ofClass(a.c.class[node])
}

func (a *ask) ofClass(of *class) keys.Reason {
	verdict := &a.classes[of.at]
	if !verdict.known {
		verdict.known, verdict.reason = true, a.pod.refuses(of.sample)
	}
	return verdict.reason
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
	if a.with != nil {
		return a.with
	}
	a.with = a.c.Namespaces
	if _, known := a.with[a.pod.namespace]; !known {
		a.with = make(Namespaces, len(a.c.Namespaces)+1)
		maps.Copy(a.with, a.c.Namespaces)
		a.with[a.pod.namespace] = map[string]string{corev1.LabelMetadataName: a.pod.namespace}
	}
	return a.with
}
