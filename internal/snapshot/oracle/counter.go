package oracle

import "slices"

// counter knows how many pods on each node match something. Between snapshots only the nodes that changed are counted again.
type counter struct {
	nodes []*Node // what was counted
	count []int32
}

// mostCounters bounds the memory that counters take; past it they are made anew.
const mostCounters = 256

// tally returns how many pods on each node match. Equal ids must mean equal matches; "" is counted without memory.
func (c *cluster) tally(id string, matches func(*tenant) bool) []int32 {
	nodes := c.snapshot.Nodes
	old := c.counters[id]
	if old != nil && slices.Equal(old.nodes, nodes) {
		return old.count
	}
	fresh := &counter{nodes: nodes, count: make([]int32, len(nodes))}
	at := 0 // Both lists are in order of names.
	for i, node := range nodes {
		if old != nil {
			for at < len(old.nodes) && old.nodes[at].Name() < node.Name() {
				at++
			}
			if at < len(old.nodes) && old.nodes[at] == node {
				fresh.count[i] = old.count[at]
				continue
			}
		}
		for _, pod := range node.Pods {
			if matches(&pod.tenant) {
				fresh.count[i]++
			}
		}
	}
	if id != "" {
		if len(c.counters) >= mostCounters {
			clear(c.counters)
		}
		c.counters[id] = fresh
	}
	return fresh.count
}
