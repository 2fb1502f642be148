package snapshot

// takeFirsts takes the best row of each class and combination of domains, but for those that are apart.
func (s *scorer) takeFirsts(coarse []*dimension, apart []bool) {
	spans := s.a.c.spans(coarse)
	best := make([]int32, spans.codes)
	for _, of := range s.a.c.classes {
		if !s.a.byNode && s.a.ofClass(of) != "" {
			continue
		}
		for code := range best {
			best[code] = -1
		}
		s.bestOf(of, coarse, apart, best, spans.of[of])
		for _, row := range best {
			if row >= 0 {
				s.takeOne(int(row))
			}
		}
	}
}

// bestOf finds the best rows of a class, by the combinations of domains that they are in: so many that the rest can be left out.
func (s *scorer) bestOf(of *class, coarse []*dimension, apart []bool, best []int32, missing int) {
	a := s.a
	for _, k := range of.chunks {
		if !a.mayHold(k) {
			continue
		}
		for _, row := range k.rows {
			if apart != nil && apart[row] {
				continue
			}
			known := &best[codeOf(coarse, int(row))]
			if !a.prefersByNode && *known >= 0 && (!a.roomy || !a.better(row, *known)) || !s.takes(int(row)) {
				continue
			}
			if a.prefersByNode { // Each may be another entry.
				s.takeOne(int(row))
				continue
			}
			if *known < 0 {
				missing--
			}
			if *known = row; missing == 0 && !a.roomy { // They are in order.
				return
			}
		}
	}
}

// countDomains counts those with nodes that take the pod.
func (s *scorer) countDomains() {
	var fine []*dimension
	for _, d := range s.dims {
		if d.fine && d.seen != nil {
			fine = append(fine, d)
		}
	}
	if len(fine) > 0 {
		s.look(fine)
	}
	for _, d := range s.dims {
		for _, seen := range d.seen {
			if seen {
				s.scores.spread[d.spread].domains++
			}
		}
	}
}

// look looks at every node to see the domains of dimensions that have many.
func (s *scorer) look(fine []*dimension) {
	simple := s.a.simple() && !s.a.byNode
	for _, of := range s.a.c.classes {
		if !s.a.byNode && s.a.ofClass(of) != "" {
			continue
		}
		for _, k := range of.chunks {
			if !s.a.mayHold(k) {
				continue
			}
			for _, row := range k.rows {
				if s.a.hasRoom(int(row)) && (simple || s.a.refuses(int(row)) == "") && s.labelled(int(row)) {
					for _, d := range fine {
						d.seen[d.domain(int(row))] = true
					}
				}
			}
		}
	}
}

// labelled reports whether a node has the labels of all constraints.
func (s *scorer) labelled(row int) bool {
	for _, d := range s.dims {
		if d.spread >= 0 && d.of[row] == outside {
			return false
		}
	}
	return true
}
