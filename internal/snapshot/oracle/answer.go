package oracle

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// best is the tightest node that takes the pod, -1 if none does.
func (a *ask) best(scale Resources) (node int, left float64) {
	node = -1
	measure := a.leftover(scale)
	before := a.before(measure)
	for i := range a.c.snapshot.Nodes {
		if !a.hasRoom(i) || a.refuses(i) != "" {
			continue
		}
		if node < 0 || before(i, node) {
			node, left = i, measure(i)
		}
	}
	return node, left - a.asked(scale)
}

// full reports whether less than nothing is free on a node, of CPU or memory.
func (a *ask) full(node int) bool {
	return a.c.room.amount[0][node] < 0 || a.c.room.amount[1][node] < 0
}

// before orders nodes: those with less than nothing last, the tighter first.
func (a *ask) before(measure func(node int) float64) func(x, y int) bool {
	return func(x, y int) bool {
		if a.full(x) != a.full(y) {
			return a.full(y)
		}
		return measure(x) < measure(y)
	}
}

// leftover measures what is free on a node, of which the pod takes asked: each resource as a share of the largest node of the
// pool, summed. The smaller, the tighter the fit. Pods and ephemeral storage do not shape holes and are left out.
// It is the best-fit score of Weng et al., ATC'23 (FGD), with every weight 1.
func (a *ask) leftover(scale Resources) func(node int) float64 {
	type part struct {
		free   []int64
		within float64
	}
	var parts []part
	for r, name := range a.c.room.names {
		within := scale.Get(name)
		if within <= 0 || name == corev1.ResourcePods || name == corev1.ResourceEphemeralStorage {
			continue
		}
		parts = append(parts, part{free: a.c.room.amount[r], within: float64(within)})
	}
	return func(node int) float64 {
		sum := 0.0
		for i := range parts {
			sum += float64(parts[i].free[node]) / parts[i].within
		}
		return sum
	}
}

// asked is what the pod takes of that.
func (a *ask) asked(scale Resources) float64 {
	asked := 0.0
	for _, name := range a.c.room.names {
		if within := scale.Get(name); within > 0 && name != corev1.ResourcePods && name != corev1.ResourceEphemeralStorage {
			asked += float64(a.pod.Requests.Get(name)) / float64(within)
		}
	}
	return asked
}

// why explains a cluster in which no node takes the pod. The order of the answers is from the cause that lies
// furthest from the pod's reach to the nearest: no node may take it, the pods around do not let it in, others hold the
// room, the total is too small or fragmented.
func (a *ask) why(scale Resources) (keys.Reason, Resources) {
	reason, company := keys.Taint, keys.Reason("")
	unheld, closest, gap := false, -1, 0.0
	totals := make([]int64, len(a.needs))
	before := a.before(a.leftover(scale))
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
		if closest < 0 || missing < gap || missing == gap && !before(i, closest) {
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
	}
	if lacking := a.lacking(totals); lacking != "" {
		return lacking, short
	}
	return keys.Fragmented, short
}

// lacking names the first resource that the nodes have too little of even together, or "".
func (a *ask) lacking(totals []int64) keys.Reason {
	if a.absent {
		return keys.InsufficientExtendedResource
	}
	for i := range a.needs {
		if a.needs[i].amount > totals[i] {
			return shortage(a.needs[i].name)
		}
	}
	return ""
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
