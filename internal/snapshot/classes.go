package snapshot

import (
	"math/bits"
	"slices"
	"strings"
)

// class is the nodes of a cell that pods cannot tell apart but by what is on them, as far as any pod has asked so far.
type class struct {
	at     int // among the classes of the cell
	key    string
	sample *Node // any of them
	nodes  int
	order
	free []wide // by column: the sum of what there is room for, negative rows counting as zero
}

// Bounds of telling nodes apart by labels. A label that is past them, as one that each node has a value of its own of, makes no
// classes: a pod that asks for it is compared with each node by itself.
const (
	mostKeys    = 32
	mostClasses = 64
	mostRefused = 1000 // labels that are remembered for making too many classes
)

// wide is a sum that no number of amounts overflows.
type wide struct{ high, low uint64 }

func (w wide) plus(amount int64) wide {
	low, carry := bits.Add64(w.low, uint64(max(0, amount)), 0)
	return wide{w.high + carry, low}
}

func (w wide) minus(amount int64) wide {
	low, borrow := bits.Sub64(w.low, uint64(max(0, amount)), 0)
	return wide{w.high - borrow, low}
}

func (w wide) and(other wide) wide {
	low, carry := bits.Add64(w.low, other.low, 0)
	return wide{w.high + other.high + carry, low}
}

// covers reports whether the sum is at least an amount.
func (w wide) covers(amount int64) bool { return amount <= 0 || w.high > 0 || w.low >= uint64(amount) }

// classKey names the class of a node.
func (c *cell) classKey(node *Node) string {
	var key strings.Builder
	key.WriteString(node.kind)
	for _, label := range c.keys {
		if value, ok := node.Object.Labels[label]; ok {
			key.WriteString("\x00=")
			key.WriteString(value)
		} else {
			key.WriteString("\x00")
		}
	}
	return key.String()
}

// enrol puts a row into its class.
func (c *cell) enrol(row int) {
	key := c.classKey(c.nodes[row])
	of := c.byKey[key]
	if of == nil {
		of = &class{at: len(c.classes), key: key, sample: c.nodes[row]}
		c.byKey[key] = of
		c.classes = append(c.classes, of)
	}
	of.nodes++
	of.sample = c.nodes[row]
	c.class[row] = of
}

// dismiss takes a row out of its class.
func (c *cell) dismiss(row int) {
	of := c.class[row]
	c.class[row] = nil
	if of.nodes--; of.nodes > 0 {
		return
	}
	delete(c.byKey, of.key)
	last := c.classes[len(c.classes)-1]
	c.classes[of.at], last.at = last, of.at
	c.classes = c.classes[:len(c.classes)-1]
}

// tellApart makes classes that differ in these labels, and reports whether they do: not where that would make too many.
func (c *cell) tellApart(labels []string) bool {
	all := true
	for _, label := range labels {
		all = c.tellApartBy(label) && all
	}
	return all
}

// tellsApart reports whether classes differ in all of these labels.
func (c *cell) tellsApart(labels []string) bool {
	return !slices.ContainsFunc(labels, func(label string) bool { return !slices.Contains(c.keys, label) })
}

func (c *cell) tellApartBy(label string) bool {
	switch {
	case slices.Contains(c.keys, label):
		return true
	case len(c.keys) == mostKeys || len(c.tooMany) == mostRefused || slices.Contains(c.tooMany, label):
		return false
	}
	c.keys = append(c.keys, label)
	found := map[string]bool{}
	for _, node := range c.nodes {
		if node == nil {
			continue
		}
		if found[c.classKey(node)] = true; len(found) > max(mostClasses, 2*len(c.classes)) {
			c.keys = c.keys[:len(c.keys)-1]
			c.tooMany = append(c.tooMany, label)
			return false
		}
	}
	c.classify()
	return true
}

// classify makes the classes anew.
func (c *cell) classify() {
	c.classes, c.byKey, c.spansOf = nil, map[string]*class{}, nil
	for row, node := range c.nodes {
		if node != nil {
			c.enrol(row)
		}
	}
	c.arranged = false
}

// kindOf is equal for nodes that no pod can tell apart but by labels, by name and by what is on them.
func kindOf(n *Node) string {
	var kind strings.Builder
	for _, yes := range []bool{n.Ready, n.Leaving, n.Object.Spec.Unschedulable} {
		if yes {
			kind.WriteByte('1')
		} else {
			kind.WriteByte('0')
		}
	}
	for _, taint := range n.Object.Spec.Taints {
		kind.WriteString("\x00t" + taint.Key + "\x00" + taint.Value + "\x00" + string(taint.Effect))
	}
	for _, feature := range n.Object.Status.DeclaredFeatures {
		kind.WriteString("\x00f" + feature)
	}
	return kind.String()
}
