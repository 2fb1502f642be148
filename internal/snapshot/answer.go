package snapshot

import (
	"cmp"
	"slices"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// best is the tightest node that takes the pod, -1 if none does. What is left after the pod, its leftover, is measured in shares of
// the largest node of the pool, summed over the resources. The smaller, the tighter the fit. Pods and ephemeral storage do not shape
// holes and are left out. It is the best-fit score of Weng et al., ATC'23 (FGD), with every weight 1:
//
//	leftover = sum_r free_r(n) / largest_r - sum_r requests_r / largest_r
//
// The first sum is the node's alone, so nodes are kept in its order and the first that takes the pod is the answer. What containers do
// not say counts, see unsaid. A node with less than nothing free comes last. A pod that asks for nothing goes where most is unused.
func (a *ask) best() (row int) {
	best := int32(-1)
	if a.absent {
		return -1
	}
	for _, of := range a.c.classes {
		if !a.byNode && a.ofClass(of) != "" {
			continue
		}
		if row := a.first(of, best); row >= 0 {
			best = row
		}
	}
	return int(best)
}

// better reports whether a node is better than another one by what is left.
func (a *ask) better(row, other int32) bool {
	if !a.roomy || a.c.full[row] != a.c.full[other] || a.c.unused[row] == a.c.unused[other] {
		return a.c.before(row, other)
	}
	return a.c.unused[row] > a.c.unused[other]
}

// first is the best node of a class that takes the pod, if it is better than another one; else -1.
func (a *ask) first(of *class, other int32) (row int32) {
	if a.roomy {
		return a.emptiest(of, other)
	}
	for _, k := range of.chunks {
		if other >= 0 && !a.c.before(k.rows[0], other) {
			return -1
		}
		if !a.mayHold(k) {
			continue
		}
		for _, row := range k.rows {
			if a.hasRoom(int(row)) && a.refuses(int(row)) == "" {
				if other >= 0 && !a.c.before(row, other) {
					return -1
				}
				return row
			}
		}
	}
	return -1
}

// emptiest is first for a pod that goes where most is unused: nodes are in no order of that.
func (a *ask) emptiest(of *class, other int32) int32 {
	best := other
	for _, k := range of.chunks {
		if !a.mayHold(k) {
			continue
		}
		for _, row := range k.rows {
			if (best < 0 || a.better(row, best)) && a.hasRoom(int(row)) && a.refuses(int(row)) == "" {
				best = row
			}
		}
	}
	if best == other {
		return -1
	}
	return best
}

// mayHold reports whether there may be room in one of a chunk's rows.
func (a *ask) mayHold(k *chunk) bool {
	for i := range a.needs {
		if n := &a.needs[i]; n.device == "" && n.amount > k.most[n.column] {
			return false
		}
	}
	return true
}

// left is what would stay free on a node: it orders nodes and clusters of which nobody prefers any.
type left struct {
	full bool    // less than nothing is free already
	over float64 // leftover; for a pod that goes where most is unused that, below zero
}

func compareLeft(a, b left) int {
	if a.full != b.full {
		if b.full {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.over, b.over)
}

func (a *ask) left(row int) left {
	if a.roomy {
		return left{a.c.full[row], -a.c.unused[row]}
	}
	return left{a.c.full[row], a.leftover(row)}
}

// leftover is what would stay free on a node after the pod.
func (a *ask) leftover(row int) float64 {
	asked := a.c.shares(a.pod.unsaid)
	for r, within := range a.c.within {
		if within > 0 {
			asked += float64(a.pod.Requests.Get(a.c.room.names[r])) / within
		}
	}
	return a.c.tight[row] - asked
}

// why explains a cluster in which no node takes the pod. The order of the answers is from the cause that lies
// furthest from the pod's reach to the nearest: no node may take it, the pods around do not let it in, others hold the
// room, the total is too small or fragmented.
func (a *ask) why() (keys.Reason, Resources) {
	w := &cause{refused: keys.Taint, closest: -1, totals: make([]wide, len(a.needs))}
	if a.simple() && !a.byNode && !a.devices() {
		a.byClasses(w)
	} else {
		a.byRows(w)
	}
	if w.closest < 0 {
		return w.refused, Resources{}
	}
	short := a.c.room.row(int(w.closest)).Short(a.pod.Requests)
	switch {
	case w.company != "":
		return w.company, short
	case w.unheld:
		return keys.Held, short
	}
	if lacking := a.lacking(w.totals); lacking != "" {
		return lacking, short
	}
	return keys.Fragmented, short
}

// cause is what is found out about a cluster that has no room for a pod.
type cause struct {
	refused keys.Reason // why no node may take it, if none may
	company keys.Reason // why one does not that has room
	unheld  bool        // without holds there would be room
	totals  []wide      // of each need, over the nodes that may take it
	closest int32       // the node that lacks least, of several the roomiest; -1 if no node may take it
	gap     float64     // what it lacks
}

// byClasses finds it out from what is known of classes and chunks.
func (a *ask) byClasses(w *cause) {
	for _, of := range a.c.classes {
		switch a.ofClass(of) {
		case "":
		case keys.NodeAffinity:
			w.refused = keys.NodeAffinity
			continue
		default:
			continue
		}
		for i := range a.needs {
			w.totals[i] = w.totals[i].and(of.free[a.needs[i].column])
		}
		if row, gap := a.closest(of); w.closest < 0 || gap < w.gap || gap == w.gap && !a.c.before(row, w.closest) {
			w.closest, w.gap = row, gap
		}
	}
	// Where nothing is held, what is free is what there is room for, and that is not enough.
	for name := range a.c.heldOn {
		if row, there := a.c.rows[name]; there {
			w.unheld = w.unheld || a.unheld(row)
		}
	}
	for i := range a.c.guests {
		w.unheld = w.unheld || a.unheld(a.c.guests[i].row)
	}
}

func (a *ask) unheld(row int) bool {
	return a.byClass(row) == "" && a.c.nodes[row].free.Fits(a.pod.Requests)
}

// byRows finds it out from each node.
func (a *ask) byRows(w *cause) {
	for _, row := range a.c.inOrder() {
		if refused := a.byClass(row); refused != "" {
			if refused == keys.NodeAffinity && w.closest < 0 {
				w.refused = refused
			}
			continue
		}
		for i := range a.needs {
			w.totals[i] = w.totals[i].plus(a.needs[i].free[row])
		}
		refused := a.refuses(row)
		if refused != "" && a.gapOn(int32(row)) == 0 {
			w.company = refused
		}
		w.unheld = w.unheld || refused == "" && a.c.nodes[row].free.Fits(a.pod.Requests)
		a.compare(w, int32(row))
	}
}

// closest is the node of a class that lacks least, the roomiest of several, and what it lacks.
func (a *ask) closest(of *class) (closest int32, gap float64) {
	closest = -1
	for _, k := range slices.Backward(of.chunks) {
		least := a.gap(func(n *need) int64 { return k.most[n.column] })
		if closest >= 0 && least >= gap {
			continue
		}
		for _, row := range slices.Backward(k.rows) {
			if lacks := a.gapOn(row); closest < 0 || lacks < gap {
				closest, gap = row, lacks
				if gap <= least {
					break
				}
			}
		}
	}
	return closest, gap
}

// compare takes a node for the closest if it is.
func (a *ask) compare(w *cause, row int32) {
	gap := a.gapOn(row)
	if w.closest < 0 || gap < w.gap || gap == w.gap && !a.c.before(row, w.closest) {
		w.closest, w.gap = row, gap
	}
}

func (a *ask) gapOn(row int32) float64 {
	return a.gap(func(n *need) int64 {
		if n.elsewhere(a.c.nodes[row]) {
			return n.amount
		}
		return n.free[row]
	})
}

// gap is what is missing where so much is free, in shares of what the pod asks for, summed.
func (a *ask) gap(free func(*need) int64) float64 {
	sum := 0.0
	for i := range a.needs {
		n := &a.needs[i]
		if free := max(0, free(n)); free < n.amount {
			sum += float64(n.amount-free) / float64(n.amount)
		}
	}
	return sum
}

// devices reports whether device classes may give something to the pod.
func (a *ask) devices() bool {
	for i := range a.needs {
		if a.needs[i].device != "" {
			return true
		}
	}
	return false
}

// lacking names the first resource that the nodes have too little of even together, or "".
func (a *ask) lacking(totals []wide) keys.Reason {
	if a.absent {
		return keys.InsufficientExtendedResource
	}
	for i := range a.needs {
		if !totals[i].covers(a.needs[i].amount) {
			return shortage(a.needs[i].name)
		}
	}
	return ""
}
