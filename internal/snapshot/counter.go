package snapshot

// counter knows how many pods on each node match something. Only the rows that have changed since it was last asked are counted again.
type counter struct {
	count []int32 // by row
	seen  uint64  // changes of the cell
	asked uint64  // when it was last asked, in questions
}

// mostCounters bounds the memory that counters take; past it the one that has not been asked for longest goes.
const mostCounters = 256

// tally returns how many pods on each node match. Equal ids must mean equal matches; "" is counted without memory.
func (c *cell) tally(id string, matches func(*tenant) bool) []int32 {
	known, now := c.counters[id], c.forgotten+uint64(len(c.changed))
	if id == "" || known == nil || known.seen < c.forgotten {
		known = &counter{count: make([]int32, len(c.nodes))}
		for row := range c.nodes {
			known.count[row] = c.matching(row, matches)
		}
		if id != "" {
			c.forgetCounter()
			c.counters[id] = known
		}
	} else {
		for len(known.count) < len(c.nodes) {
			known.count = append(known.count, 0)
		}
		for _, row := range c.changed[known.seen-c.forgotten:] {
			known.count[row] = c.matching(int(row), matches)
		}
	}
	c.tick++
	known.seen, known.asked = now, c.tick
	return known.count
}

func (c *cell) matching(row int, matches func(*tenant) bool) (count int32) {
	if c.nodes[row] == nil {
		return 0
	}
	for _, pod := range c.nodes[row].Pods {
		if matches(&pod.tenant) {
			count++
		}
	}
	return count
}

func (c *cell) forgetCounter() {
	if len(c.counters) < mostCounters {
		return
	}
	oldest := ""
	for id, counter := range c.counters {
		if oldest == "" || counter.asked < c.counters[oldest].asked {
			oldest = id
		}
	}
	delete(c.counters, oldest)
}
