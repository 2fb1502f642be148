package oracle

// topology numbers the domains of a label: the values that nodes have of it.
type topology struct {
	of   []int32 // the domain of each node, outside for nodes without the label
	size int
}

const outside = -1

// topology returns that of a label. It is made at the first need and then kept with the snapshot.
func (s *Snapshot) topology(key string) *topology {
	if known := s.topologies[key]; known != nil {
		return known
	}
	t := &topology{of: make([]int32, len(s.Nodes))}
	numbers := map[string]int32{}
	for i, node := range s.Nodes {
		value, ok := node.Object.Labels[key]
		if !ok {
			t.of[i] = outside
			continue
		}
		number, known := numbers[value]
		if !known {
			number = int32(len(numbers))
			numbers[value] = number
		}
		t.of[i] = number
	}
	t.size = len(numbers)
	s.topologies[key] = t
	return t
}
