package snapshot

// topology numbers the domains of a label: the values that nodes have of it.
type topology struct {
	of      []int32 // the domain of each row, outside for nodes without the label
	size    int
	numbers map[string]int32
}

const outside = -1

// topology returns that of a label. It is made at the first need and then kept.
func (c *cell) topology(key string) *topology {
	t := c.topologies[key]
	if t != nil && t.size <= 2*len(c.rows)+1024 { // Domains that nodes have left keep their numbers.
		return t
	}
	t = &topology{numbers: map[string]int32{}}
	for row, node := range c.nodes {
		if node != nil {
			t.put(row, node, key)
		}
	}
	t.reach(len(c.nodes))
	c.topologies[key] = t
	return t
}

// reach makes the rows be known up to a number.
func (t *topology) reach(rows int) {
	for len(t.of) < rows {
		t.of = append(t.of, outside)
	}
}

func (t *topology) put(row int, node *Node, key string) {
	t.reach(row + 1)
	value, ok := node.Object.Labels[key]
	if !ok {
		t.of[row] = outside
		return
	}
	number, known := t.numbers[value]
	if !known {
		number = int32(t.size)
		t.numbers[value] = number
		t.size++
	}
	t.of[row] = number
}

func (t *topology) drop(row int) { t.of[row] = outside }
