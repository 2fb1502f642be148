package snapshot

import "slices"

// Stir is what has changed in a cluster that may let a pod in which it has refused.
type Stir struct {
	Cluster string

	cell  *cell
	all   bool // it may be anything
	rows  []int32
	eased []*term // of pods that keep others away no more
}

// Marks remember up to where changes have been looked at, by cluster.
type Marks map[string]mark

type mark struct {
	cell  *cell
	rows  uint64
	eased uint64
	all   uint64
}

// journal is what may let pods in, in the order in which it came. What is older than the newest few thousand is forgotten.
type journal[T any] struct {
	entries   []T
	forgotten uint64
}

const mostEntries = 8192

func (j *journal[T]) add(entry T) {
	j.entries = append(j.entries, entry)
	if len(j.entries) > mostEntries {
		half := len(j.entries) / 2
		j.entries = slices.Clone(j.entries[half:])
		j.forgotten += uint64(half)
	}
}

func (j *journal[T]) end() uint64 { return j.forgotten + uint64(len(j.entries)) }

// since returns what has come since then; ok is false where some of it is forgotten.
func (j *journal[T]) since(then uint64) (entries []T, ok bool) {
	if then < j.forgotten {
		return nil, false
	}
	return j.entries[then-j.forgotten:], true
}

// Stirs returns what has changed since the marks, and moves them.
func (p *Pool) Stirs(marks Marks) []Stir {
	var stirs []Stir
	for name, c := range p.cells {
		before := marks[name]
		now := mark{cell: c, rows: c.gained.end(), eased: c.eased.end(), all: c.shaken}
		if before == now {
			continue
		}
		marks[name] = now
		s := Stir{Cluster: name, cell: c, all: before.cell != c || before.all != now.all}
		rows, known := c.gained.since(before.rows)
		eased, all := c.eased.since(before.eased)
		if !known || !all {
			s.all = true
		}
		if !s.all {
			s.rows, s.eased = slices.Compact(slices.Sorted(slices.Values(rows))), slices.Clone(eased)
		}
		stirs = append(stirs, s)
	}
	for name := range marks {
		if p.cells[name] == nil {
			delete(marks, name)
		}
	}
	return stirs
}

// Sociable reports whether pods of other clusters decide, too: it wants to be near to pods that may be anywhere.
func (p *Pod) Sociable() bool { return len(p.near) > 0 }

// MayTake reports whether the change may let the pod in; false is for sure.
func (s *Stir) MayTake(pod *Pod) bool {
	if s.all || !pod.plain() || !pod.Part.Reserve.none() || s.cell.gives(pod) {
		return true
	}
	for _, t := range s.eased {
		if t.means(&pod.tenant, s.cell.Namespaces) {
			return true
		}
	}
	for _, row := range s.rows {
		if s.cell.nodes[row] != nil && s.cell.room.fits(int(row), pod.Requests) {
			return true
		}
	}
	return false
}
