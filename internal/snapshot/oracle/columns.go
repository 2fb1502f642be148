package oracle

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// columns hold one amount a node and resource, each resource's amounts beside each other: a question about 10,000 nodes
// reads a few arrays from end to end and allocates nothing.
type columns struct {
	names  []corev1.ResourceName // CPU, memory, ephemeral storage, pods, then the others in order
	amount [][]int64             // [resource][node]
}

var always = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods}

// newColumns lays out what is free on nodes.
func newColumns(nodes []*Node) columns {
	others := map[corev1.ResourceName]bool{}
	for _, node := range nodes {
		for name := range node.free.Scalars {
			others[name] = true
		}
	}
	c := columns{names: slices.Concat(always, slices.Sorted(maps.Keys(others)))}
	c.amount = make([][]int64, len(c.names))
	all := make([]int64, len(c.names)*len(nodes))
	for r, name := range c.names {
		c.amount[r], all = all[:len(nodes):len(nodes)], all[len(nodes):]
		for i, node := range nodes {
			c.amount[r][i] = node.free.Get(name)
		}
	}
	return c
}

func (c columns) clone() columns {
	copied := columns{names: c.names, amount: make([][]int64, len(c.amount))}
	for r := range c.amount {
		copied.amount[r] = slices.Clone(c.amount[r])
	}
	return copied
}

// index is the column of a resource, or -1 where no node has any.
func (c columns) index(name corev1.ResourceName) int { return slices.Index(c.names, name) }

// take subtracts an amount of every resource on one node; sign -1 gives it back. What no node has is not there to take.
func (c columns) take(node int, amounts Resources, sign int64) {
	for r, name := range c.names {
		amount := max(amounts.Get(name), -math.MaxInt64)
		c.amount[r][node] = add(c.amount[r][node], -sign*amount)
	}
}

// row is one node's amounts.
func (c columns) row(node int) Resources {
	var r Resources
	if others := len(c.names) - len(always); others > 0 {
		r.Scalars = make(map[corev1.ResourceName]int64, others)
	}
	for i, name := range c.names {
		r.set(name, c.amount[i][node])
	}
	return r
}
