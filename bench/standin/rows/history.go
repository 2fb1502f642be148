package rows

import (
	"sort"
	"strconv"
	"time"
)

// How much of what happened is remembered: a client that comes back within fresh can go on from where it was, as with a real
// API server, and one that reads slowly is waited for, unless that is more than most events.
const (
	fewest = 64
	most   = 100 << 10 // if a table says nothing else
	fresh  = 75 * time.Second
)

// history is a ring of events. The oldest has the number first.
type history struct {
	ring  []timed
	first uint64
	count int
	most  int // of the events
	// lost is the version of the newest event that is not here any more.
	lost uint64
}

type timed struct {
	Event
	at time.Time
}

// forget drops everything up to a version.
func (h *history) forget(version uint64) {
	h.first += uint64(h.count)
	h.ring, h.count, h.lost = nil, 0, version
}

func (h *history) at(i int) *timed { return &h.ring[(h.first+uint64(i))%uint64(len(h.ring))] }

// add appends an event. The ring grows as long as what would make room is fresh, or somebody still has to read it.
func (h *history) add(event Event, now time.Time, needed func(number uint64) bool) {
	if h.count == len(h.ring) {
		if h.count == 0 || h.count < h.most && (now.Sub(h.at(0).at) < fresh || needed(h.first)) {
			h.grow()
		} else {
			h.lost = h.at(0).Version()
			h.first++
			h.count--
		}
	}
	h.count++
	*h.at(h.count - 1) = timed{event, now}
}

func (h *history) grow() {
	larger := make([]timed, min(max(fewest, 2*len(h.ring)), h.most))
	for i := range h.count {
		larger[(h.first+uint64(i))%uint64(len(larger))] = *h.at(i)
	}
	h.ring = larger
}

// after returns the number of the first event that is newer than a version.
func (h *history) after(version uint64) uint64 {
	return h.first + uint64(sort.Search(h.count, func(i int) bool { return h.at(i).Version() > version }))
}

// tell notes an event and wakes who waits for one.
func (t *Table) tell(event Event) {
	t.history.add(event, time.Now(), t.needed)
	t.told.Add(1)
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// needed reports whether a cursor has not read an event yet.
func (t *Table) needed(number uint64) bool {
	for cursor := range t.cursors {
		if cursor.next <= number {
			return true
		}
	}
	return false
}

// Cursor is a place in what happens to a table. It is used by one goroutine at a time, and closed when it is not needed any more.
type Cursor struct {
	table *Table
	next  uint64
}

// Watch returns a cursor behind a version. ErrExpired: that is too long ago.
func (t *Table) Watch(version uint64) (*Cursor, error) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if version < t.history.lost {
		return nil, ErrExpired
	}
	return t.cursor(t.history.after(version)), nil
}

func (t *Table) cursor(next uint64) *Cursor {
	c := &Cursor{t, next}
	t.cursors[c] = true
	return c
}

// Close says that nothing more is to be read.
func (c *Cursor) Close() {
	c.table.store.mu.Lock()
	defer c.table.store.mu.Unlock()
	delete(c.table.cursors, c)
}

// Begin returns what there is in a namespace, "" for all, and a cursor that goes on from there.
func (t *Table) Begin(namespace string) (*Picture, *Cursor) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	return t.picture(namespace), t.cursor(t.history.first + uint64(t.history.count))
}

// Read appends what happened since, at most as many events as into has room for, which is one at least. version is the newest
// that is covered: if moved is not nil, there is nothing more yet, and it is closed once there is. ErrExpired: the reader is too
// slow.
func (c *Cursor) Read(into []Event) (events []Event, version uint64, moved <-chan struct{}, err error) {
	t := c.table
	t.store.mu.Lock() // Not for reading only: moved may be made.
	defer t.store.mu.Unlock()
	h := &t.history
	if c.next < h.first {
		return nil, 0, nil, ErrExpired
	}
	end := h.first + uint64(h.count)
	for c.next < end && len(into) < cap(into) {
		into = append(into, h.at(int(c.next-h.first)).Event)
		c.next++
	}
	if c.next < end {
		return into, into[len(into)-1].Version(), nil, nil
	}
	if t.moved == nil {
		t.moved = make(chan struct{})
	}
	return into, t.store.version, t.moved, nil
}

// Oldest is the version from which on everything is known.
func (t *Table) Oldest() uint64 {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	return t.history.lost
}

// FormatVersion is a version as API objects have it.
func FormatVersion(version uint64) string { return strconv.FormatUint(version, 10) }
