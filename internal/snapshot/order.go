package snapshot

import (
	"slices"
	"sort"
)

// order holds rows by how much is left on them, the tightest first, in chunks that know the most that any of their rows has of each
// resource: so the tightest row that has room for a pod is found by a look at few of them, and that there is none by a look at no row.
type order struct{ chunks []*chunk }

type chunk struct {
	rows []int32
	most []int64 // by column
}

// mostRows bounds a chunk: the work of a change grows with it, that of a question shrinks.
const mostRows = 128

// before orders the rows: those with less than nothing last, the tighter first, then by name.
func (c *cell) before(a, b int32) bool {
	if c.full[a] != c.full[b] {
		return c.full[b]
	}
	if c.tight[a] != c.tight[b] {
		return c.tight[a] < c.tight[b]
	}
	return c.nodes[a].Name() < c.nodes[b].Name()
}

// find returns the chunk that a row is in, or belongs into, and its place there.
func (o *order) find(c *cell, row int32) (at, place int) {
	at = sort.Search(len(o.chunks), func(i int) bool {
		rows := o.chunks[i].rows
		return !c.before(rows[len(rows)-1], row)
	})
	if at = min(at, len(o.chunks)-1); at < 0 {
		return 0, 0
	}
	rows := o.chunks[at].rows
	return at, sort.Search(len(rows), func(i int) bool { return !c.before(rows[i], row) })
}

func (o *order) insert(c *cell, row int32) {
	at, place := o.find(c, row)
	if len(o.chunks) == 0 {
		o.chunks = append(o.chunks, &chunk{})
	}
	into := o.chunks[at]
	into.rows = slices.Insert(into.rows, place, row)
	into.raise(&c.room, row)
	if len(into.rows) > mostRows {
		half := len(into.rows) / 2
		next := &chunk{rows: slices.Clone(into.rows[half:])}
		into.rows = into.rows[:half]
		into.measure(&c.room)
		next.measure(&c.room)
		o.chunks = slices.Insert(o.chunks, at+1, next)
	}
}

// remove takes a row out whose amounts are still those that it was put in with.
func (o *order) remove(c *cell, row int32) {
	at, place := o.find(c, row)
	from := o.chunks[at]
	from.rows = slices.Delete(from.rows, place, place+1)
	switch {
	case len(from.rows) == 0:
		o.chunks = slices.Delete(o.chunks, at, at+1)
	case at+1 < len(o.chunks) && len(from.rows)+len(o.chunks[at+1].rows) < mostRows/2:
		from.rows = append(from.rows, o.chunks[at+1].rows...)
		from.measure(&c.room)
		o.chunks = slices.Delete(o.chunks, at+1, at+2)
	default:
		from.lower(&c.room, row)
	}
}

// arrange puts rows in order that are in none yet.
func (o *order) arrange(c *cell, rows []int32) {
	slices.SortFunc(rows, func(a, b int32) int {
		switch {
		case a == b:
			return 0
		case c.before(a, b):
			return -1
		default:
			return 1
		}
	})
	o.chunks = nil
	for some := range slices.Chunk(rows, mostRows/2) {
		next := &chunk{rows: slices.Clone(some)}
		next.measure(&c.room)
		o.chunks = append(o.chunks, next)
	}
}

func (k *chunk) measure(room *columns) {
	k.most = make([]int64, len(room.names))
	for r := range k.most {
		k.most[r] = mostOf(room.amount[r], k.rows)
	}
}

func (k *chunk) raise(room *columns, row int32) {
	if len(k.most) != len(room.names) {
		k.measure(room)
		return
	}
	for r := range k.most {
		k.most[r] = max(k.most[r], room.amount[r][row])
	}
}

func (k *chunk) lower(room *columns, without int32) {
	for r := range k.most {
		if room.amount[r][without] == k.most[r] {
			k.most[r] = mostOf(room.amount[r], k.rows)
		}
	}
}

func mostOf(amounts []int64, rows []int32) int64 {
	most := amounts[rows[0]]
	for _, row := range rows[1:] {
		most = max(most, amounts[row])
	}
	return most
}

// mostShares is what a row that has the most of everything would have, see columns.shares.
func (k *chunk) mostShares(units []float64) float64 {
	sum := 0.0
	for r, unit := range units {
		if unit > 0 {
			sum += float64(k.most[r]) / unit
		}
	}
	return sum
}
