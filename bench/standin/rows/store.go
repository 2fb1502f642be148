package rows

import (
	"errors"
	"sync"
	"sync/atomic"
)

// What a call can end with.
var (
	ErrExists   = errors.New("there is one of that name")
	ErrNotFound = errors.New("there is none of that name")
	ErrExpired  = errors.New("what happened since is not known any more")
)

// FirstVersion is a cluster's resource version before anything is in it. All later ones have as many digits for as long as
// anybody will measure, so that encodings of one shape have one length.
const FirstVersion = 1_000_000_000

// Store is what the tables of one cluster have in common: the lock and the resource version, as etcd has one revision.
type Store struct {
	mu      sync.RWMutex
	version uint64
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{version: FirstVersion} }

// Version is the newest resource version.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Table is one resource of a cluster: its objects in the order of namespace and name, and what happened to them lately. Its
// methods may be called from any goroutine.
type Table struct {
	store *Store
	maker Maker

	rows    []Row
	unused  []int32         // places in rows
	objects map[int32]*Item // by place, of rows that are an object
	spaces  map[string]*space
	ordered []string // the namespaces, sorted

	history history
	cursors map[*Cursor]bool
	told    atomic.Uint64 // events so far
	moved   chan struct{} // closed at the next event; nil while nobody waits
	kept    []*Picture    // for who reads in pages
}

// space is what is in one namespace: places in rows, in the order of names.
type space struct{ places []int32 }

// NewTable adds a table to a store. maker may be nil if only objects are put into it.
func (s *Store) NewTable(maker Maker) *Table {
	return &Table{
		store: s, maker: maker, objects: map[int32]*Item{}, spaces: map[string]*space{},
		history: history{most: most}, cursors: map[*Cursor]bool{},
	}
}

// Len is the number of objects.
func (t *Table) Len() int {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	return len(t.rows) - len(t.unused)
}

// Told is the number of events so far, read without a lock.
func (t *Table) Told() uint64 { return t.told.Load() }
