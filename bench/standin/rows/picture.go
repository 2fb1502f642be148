package rows

import (
	"bytes"
	"slices"
	"sort"
)

// Picture is what there was at a version, in the order of namespace and name. Nobody changes it.
type Picture struct {
	Version   uint64
	Namespace string // what it is limited to, "" for nothing
	Items     []Item
	table     *Table
}

// pages is how many pictures are kept for who reads them in pages.
const pages = 8

func (t *Table) picture(namespace string) *Picture {
	p := &Picture{Version: t.store.version, Namespace: namespace, table: t}
	namespaces := t.ordered
	if namespace != "" {
		namespaces = []string{namespace}
	}
	n := 0
	for _, name := range namespaces {
		if in := t.spaces[name]; in != nil {
			n += len(in.places)
		}
	}
	p.Items = make([]Item, 0, n)
	for _, name := range namespaces {
		if in := t.spaces[name]; in != nil {
			for _, place := range in.places {
				p.Items = append(p.Items, t.item(place))
			}
		}
	}
	return p
}

// Picture returns what there is in a namespace, "" for all.
func (t *Table) Picture(namespace string) *Picture {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	return t.picture(namespace)
}

// Keep remembers a picture for who will ask for the rest of it.
func (t *Table) Keep(p *Picture) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if !slices.Contains(t.kept, p) {
		t.kept = append(t.kept, p)
		t.kept = slices.Delete(t.kept, 0, max(0, len(t.kept)-pages))
	}
}

// Kept returns the picture of a version and namespace that was kept, unless it is forgotten.
func (t *Table) Kept(version uint64, namespace string) (*Picture, bool) {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	at := slices.IndexFunc(t.kept, func(p *Picture) bool {
		return p.Version == version && p.Namespace == namespace
	})
	if at < 0 {
		return nil, false
	}
	return t.kept[at], true
}

// Name is that of an item.
func (t *Table) Name(item *Item) string { return string(t.appendName(nil, item)) }

// Namespace is that of an item.
func (t *Table) Namespace(item *Item) string { return t.namespaceOf(item) }

// From returns where in a picture the items from a namespace and name on begin.
func (p *Picture) From(namespace, name string) int {
	var buffer [256]byte
	return sort.Search(len(p.Items), func(i int) bool {
		item := &p.Items[i]
		if in := p.table.namespaceOf(item); in != namespace {
			return in > namespace
		}
		return bytes.Compare(p.table.appendName(buffer[:0], item), []byte(name)) >= 0
	})
}
