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

// Stirs returns what has changed since the marks, and moves them. A cluster that has left is one with nothing in it.
func (p *Pool) Stirs(marks Marks) []Stir {
	var stirs []Stir
	for name, c := range p.cells {
		before := marks[name]
		if before.cell != c { // It has left and come back: nothing of before is in it.
			before = mark{}
		}
		now := mark{cell: c, rows: c.gained.end(), eased: c.eased.end(), all: c.shaken}
		if before == now {
			continue
		}
		marks[name] = now
		s := Stir{Cluster: name, cell: c, all: before.cell != c || before.all != now.all}
		rows, known := c.gained.since(before.rows)
		eased, all := c.eased.since(before.eased)
		if !known || !all || p.reservedIn(name) { // A reservation's room is there for some, and taken for others.
			s.all = true
		}
		if !s.all {
			s.rows, s.eased = slices.Compact(slices.Sorted(slices.Values(rows))), distinct(eased)
		}
		stirs = append(stirs, s)
	}
	for name := range marks {
		if p.cells[name] == nil {
			delete(marks, name)
			stirs = append(stirs, Stir{Cluster: name, all: true})
		}
	}
	return stirs
}

// reservedIn reports whether room in a cluster is kept for pods that do not exist yet.
func (p *Pool) reservedIn(name string) bool {
	for _, hold := range p.reserved {
		if hold.Cluster == name {
			return true
		}
	}
	return false
}

// distinct are the terms that mean different things.
func distinct(terms []*term) (some []*term) {
	seen := map[string]bool{}
	for _, t := range terms {
		if id := t.key + " " + t.id; t.id == "" || !seen[id] {
			seen[id] = true
			some = append(some, t)
		}
	}
	return some
}

// Sociable reports whether pods of other clusters decide, too: it wants to be near to pods that may be anywhere, or demands something
// over all clusters.
func (p *Pod) Sociable() bool { return len(p.near) > 0 || p.Across != nil }

// MayTake reports whether the change may let the pod in; false is for sure.
func (s *Stir) MayTake(pod *Pod) bool {
	if s.all || !pod.plain() || !pod.Part.Reserve.none() || s.cell.gives(pod) {
		return true
	}
	_, known := s.cell.Namespaces[pod.namespace]
	for _, t := range s.eased {
		if !known || t.means(&pod.tenant, s.cell.Namespaces) {
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
