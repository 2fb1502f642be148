package snapshot

import corev1 "k8s.io/api/core/v1"

// dimension is a value of each node that depends on the domain it is in.
type dimension struct {
	*topology
	key    string
	spread int     // the constraint that it is for; -1 for InterPodAffinity
	byRow  bool    // each node is a domain of its own
	value  []int64 // by domain
	seen   []bool  // by domain: there is a node that takes the pod; where their number counts
	fine   bool    // there are many domains, and pods that matter in few
}

// Bounds of looking at domains one by one: those of one label, and the combinations of those of several.
const (
	mostDomains = 64
	mostCodes   = 4096
)

func (s *scorer) addDimension(key string, spread int) {
	t := s.a.c.topology(key)
	d := &dimension{topology: t, key: key, spread: spread, fine: t.size > mostDomains}
	size := t.size
	if spread >= 0 && key == corev1.LabelHostname { // So counts PodTopologySpread, whatever the label says.
		d.byRow, d.fine, size = true, true, len(t.of)
	}
	d.value = make([]int64, size)
	if spread >= 0 {
		d.seen = make([]bool, size)
	}
	s.dims = append(s.dims, d)
}

// domain of a row, or outside.
func (d *dimension) domain(row int) int32 {
	if d.byRow && d.of[row] != outside {
		return int32(row)
	}
	return d.of[row]
}

func (d *dimension) add(row int, count int64) {
	if domain := d.domain(row); domain != outside {
		d.value[domain] += count
	}
}

// coarse are the dimensions with few domains.
func (s *scorer) coarse() (coarse []*dimension) {
	codes := 1
	for _, d := range s.dims {
		if d.fine = d.fine || codes*(d.size+1) > mostCodes; !d.fine {
			codes *= d.size + 1
			coarse = append(coarse, d)
		}
	}
	return coarse
}

// apart are the rows that a label of many domains tells from the others.
func (s *scorer) apart() []bool {
	var apart []bool
	for _, d := range s.dims {
		if !d.fine {
			continue
		}
		if apart == nil {
			apart = make([]bool, len(s.a.c.nodes))
		}
		for row, domain := range d.of {
			switch {
			case domain == outside:
				apart[row] = apart[row] || d.spread >= 0
			case d.byRow:
				apart[row] = apart[row] || d.value[row] != 0
			default:
				apart[row] = apart[row] || d.value[domain] != 0
			}
		}
	}
	return apart
}
