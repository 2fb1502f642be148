package rows

import (
	"bytes"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// item is what is at a place.
func (t *Table) item(place int32) Item {
	if item := t.objects[place]; item != nil {
		return *item
	}
	return Item{Row: t.rows[place]}
}

// nameOf and namespaceOf name an item.
func (t *Table) appendName(dst []byte, item *Item) []byte {
	if item.Object != nil {
		return append(dst, accessor(item).GetName()...)
	}
	return t.maker.AppendName(dst, item.Row)
}

func (t *Table) namespaceOf(item *Item) string {
	if item.Object != nil {
		return accessor(item).GetNamespace()
	}
	return t.maker.Namespace(item.Row)
}

func accessor(item *Item) metav1.Object {
	object, err := meta.Accessor(item.Object)
	if err != nil {
		panic(err) // Only objects with metadata are kept.
	}
	return object
}

// find returns where in a namespace a name is, or would be.
func (t *Table) find(in *space, name []byte) (at int, found bool) {
	if in == nil {
		return 0, false
	}
	var buffer [256]byte
	at = sort.Search(len(in.places), func(i int) bool {
		item := t.item(in.places[i])
		order := bytes.Compare(t.appendName(buffer[:0], &item), name)
		found = found || order == 0
		return order >= 0
	})
	return at, found
}

// Fill puts rows into an empty table without telling anybody: what a cluster starts with. They get one version.
func (t *Table) Fill(rows []Row) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	t.store.version++
	t.history.forget(t.store.version)
	t.rows = rows
	names := make([][]byte, len(rows))
	for i := range rows {
		rows[i].Version = t.store.version
		names[i] = t.maker.AppendName(nil, rows[i])
		in := t.space(t.maker.Namespace(rows[i]))
		in.places = append(in.places, int32(i))
	}
	for _, in := range t.spaces {
		slices.SortFunc(in.places, func(a, b int32) int { return bytes.Compare(names[a], names[b]) })
		in.places = slices.Clip(in.places)
	}
}

// space is that of a namespace, which is made if it is not there.
func (t *Table) space(namespace string) *space {
	in := t.spaces[namespace]
	if in == nil {
		in = &space{}
		t.spaces[namespace] = in
		at, _ := slices.BinarySearch(t.ordered, namespace)
		t.ordered = slices.Insert(t.ordered, at, namespace)
	}
	return in
}

// Insert adds an item and returns it with its version, and the place it has. ErrExists: the name is taken.
func (t *Table) Insert(item Item) (Item, int32, error) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	in := t.space(t.namespaceOf(&item))
	at, taken := t.find(in, t.appendName(nil, &item))
	if taken {
		return Item{}, 0, ErrExists
	}
	t.stamp(&item)
	place := int32(len(t.rows))
	if n := len(t.unused); n > 0 {
		place, t.unused = t.unused[n-1], t.unused[:n-1]
	} else {
		t.rows = append(t.rows, Row{})
	}
	t.put(place, item)
	in.places = slices.Insert(in.places, at, place)
	t.tell(Event{Type: Added, Now: item, Before: item})
	return item, place, nil
}

// put writes an item to a place.
func (t *Table) put(place int32, item Item) {
	t.rows[place] = item.Row
	if item.Object != nil {
		t.objects[place] = &item
	} else {
		delete(t.objects, place)
	}
}

// stamp gives an item the next version.
func (t *Table) stamp(item *Item) {
	t.store.version++
	item.Version = t.store.version
	if item.Object != nil {
		accessor(item).SetResourceVersion(FormatVersion(item.Version))
	}
}

// Get returns the item of a name.
func (t *Table) Get(namespace, name string) (Item, bool) {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	in := t.spaces[namespace]
	at, found := t.find(in, []byte(name))
	if !found {
		return Item{}, false
	}
	return t.item(in.places[at]), true
}

// Next is what becomes of an item that is being changed.
type Next struct {
	Item
	Remove bool // it goes; Item is what it was at last
	Same   bool // nothing changes
}

// Change lets change decide, under the lock, what becomes of the item of a name, and returns what it is then. change owns
// the Object that it returns, but not the one that it is given. ErrNotFound, or the error of change.
func (t *Table) Change(namespace, name string, change func(Item) (Next, error)) (Item, error) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	in := t.spaces[namespace]
	at, found := t.find(in, []byte(name))
	if !found {
		return Item{}, ErrNotFound
	}
	place := in.places[at]
	before := t.item(place)
	next, err := change(before)
	if err != nil || next.Same {
		return before, err
	}
	return t.apply(place, before, next, in, at), nil
}

// ChangeAt is Change for the row at a place, if that is still the one of a serial number and made from numbers.
func (t *Table) ChangeAt(place int32, serial uint32, change func(Row) (row Row, remove bool)) (Row, bool) {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if row := t.rows[place]; row.Serial != serial || row.Version == 0 || t.objects[place] != nil {
		return Row{}, false
	}
	before := Item{Row: t.rows[place]}
	row, remove := change(before.Row)
	var in *space
	at := 0
	if remove {
		in = t.spaces[t.maker.Namespace(before.Row)]
		at, _ = t.find(in, t.maker.AppendName(nil, before.Row))
	}
	return t.apply(place, before, Next{Item: Item{Row: row}, Remove: remove}, in, at).Row, true
}

// apply makes an item what it is to be. in and at say where it is, if it is to be removed.
func (t *Table) apply(place int32, before Item, next Next, in *space, at int) Item {
	t.stamp(&next.Item)
	if next.Remove {
		in.places = slices.Delete(in.places, at, at+1)
		t.put(place, Item{})
		t.unused = append(t.unused, place)
		t.tell(Event{Type: Deleted, Now: next.Item, Before: before})
		return next.Item
	}
	t.put(place, next.Item)
	t.tell(Event{Type: Modified, Now: next.Item, Before: before})
	return next.Item
}

// Places is how many places there are for rows. Some may be empty: their version is 0.
func (t *Table) Places() int {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	return len(t.rows)
}

// Plain returns the row at a place if there is one and it is no object.
func (t *Table) Plain(place int32) (Row, bool) {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	row := t.rows[place]
	return row, row.Version != 0 && t.objects[place] == nil
}

// LenOf is the number of objects in a namespace.
func (t *Table) LenOf(namespace string) int {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	if in := t.spaces[namespace]; in != nil {
		return len(in.places)
	}
	return 0
}
