package rows

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spread names rows by their serial number, and puts them into as many namespaces as its value.
type spread int

func (s spread) Namespace(r Row) string { return fmt.Sprintf("ns-%d", int(r.Serial)%int(s)) }

func (s spread) AppendName(dst []byte, r Row) []byte {
	return fmt.Appendf(dst, "row-%06d", uint64(r.Serial)*7919%1_000_000) // Not in the order of the numbers.
}

func names(t *Table, p *Picture) (all []string) {
	for i := range p.Items {
		all = append(all, t.Namespace(&p.Items[i])+"/"+t.Name(&p.Items[i]))
	}
	return all
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns-0", Name: name}}
}

// A table that is written to at random holds what a map would, in order, and its events lead from one picture to the next.
func TestTableAgainstMap(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	store := NewStore()
	table := store.NewTable(spread(3))
	first := make([]Row, 100)
	model := map[string]uint64{}
	for i := range first {
		first[i].Serial = uint32(i)
	}
	table.Fill(first)
	start, cursor := table.Begin("")
	for i, name := range names(table, start) {
		model[name] = start.Items[i].Version
	}
	serial := uint32(100)
	for range 2000 {
		p := table.Picture("")
		if len(p.Items) == 0 || random.IntN(3) == 0 {
			item, _, err := table.Insert(Item{Row: Row{Serial: serial}})
			if err != nil {
				t.Fatal(err)
			}
			serial++
			model[table.Namespace(&item)+"/"+table.Name(&item)] = item.Version
			continue
		}
		at := p.Items[random.IntN(len(p.Items))]
		gone := random.IntN(2) == 0
		item, err := table.Change(table.Namespace(&at), table.Name(&at), func(item Item) (Next, error) { return Next{Item: item, Remove: gone}, nil })
		if err != nil {
			t.Fatal(err)
		}
		key := table.Namespace(&item) + "/" + table.Name(&item)
		if model[key] = item.Version; gone {
			delete(model, key)
		}
	}
	p := table.Picture("")
	got := map[string]uint64{}
	all := names(table, p)
	for i, name := range all {
		got[name] = p.Items[i].Version
	}
	if diff := cmp.Diff(model, got); diff != "" {
		t.Error(diff)
	}
	if !slices.IsSorted(all) {
		t.Error("not in order")
	}
	if diff := cmp.Diff(got, replay(t, table, start, cursor)); diff != "" {
		t.Error("events do not lead there", diff)
	}
}

// replay applies what a cursor reads to a picture.
func replay(t *testing.T, table *Table, from *Picture, cursor *Cursor) map[string]uint64 {
	t.Helper()
	state := map[string]uint64{}
	for i, name := range names(table, from) {
		state[name] = from.Items[i].Version
	}
	last := from.Version
	for {
		events, version, moved, err := cursor.Read(make([]Event, 0, 7))
		if err != nil {
			t.Fatal(err)
		}
		for i := range events {
			e := &events[i]
			key := table.Namespace(&e.Now) + "/" + table.Name(&e.Now)
			if e.Version() <= last {
				t.Fatalf("event %d after %d", e.Version(), last)
			}
			last = e.Version()
			if e.Type != Added && e.Before.Version != state[key] {
				t.Fatalf("%s was at %d, the event says %d", key, state[key], e.Before.Version)
			}
			if state[key] = e.Version(); e.Type == Deleted {
				delete(state, key)
			}
		}
		if moved != nil {
			if version != table.store.Version() {
				t.Errorf("the cursor is at %d, the store at %d", version, table.store.Version())
			}
			return state
		}
	}
}

func TestObjectsAmongRows(t *testing.T) {
	t.Parallel()
	table := NewStore().NewTable(spread(1))
	table.Fill([]Row{{Serial: 1}, {Serial: 2}})
	if _, _, err := table.Insert(Item{Object: configMap("row-000000")}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Insert(Item{Object: configMap("row-007919")}); !errors.Is(err, ErrExists) {
		t.Errorf("a name that a row has: %v", err)
	}
	changed, err := table.Change("ns-0", "row-007919", func(item Item) (Next, error) { // A client writes to what was a row.
		item.Object = configMap("row-007919")
		return Next{Item: item}, nil
	})
	if err != nil || changed.Object.(*corev1.ConfigMap).ResourceVersion != FormatVersion(changed.Version) {
		t.Error(changed, err)
	}
	if _, ok := table.ChangeAt(0, 1, func(r Row) (Row, bool) { return r, true }); ok {
		t.Error("what is an object is changed as a row")
	}
	if diff := cmp.Diff([]string{"ns-0/row-000000", "ns-0/row-007919", "ns-0/row-015838"}, names(table, table.Picture(""))); diff != "" {
		t.Error(diff)
	}
	if _, err := table.Change("ns-0", "none", nil); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestHistoryForgets(t *testing.T) {
	t.Parallel()
	table := NewStore().NewTable(spread(1))
	table.Fill([]Row{{Serial: 1}})
	table.history.most = 1000
	start := table.store.Version()
	if _, err := table.Watch(start - 1); !errors.Is(err, ErrExpired) {
		t.Errorf("from before the beginning: %v", err)
	}
	slow, err := table.Watch(start)
	if err != nil {
		t.Fatal(err)
	}
	for range 1010 {
		if _, ok := table.ChangeAt(0, 1, func(r Row) (Row, bool) { return r, false }); !ok {
			t.Fatal("not changed")
		}
	}
	if _, _, _, err := slow.Read(make([]Event, 0, 1)); !errors.Is(err, ErrExpired) {
		t.Errorf("a reader that is too slow: %v", err)
	}
	if _, err := table.Watch(table.Oldest()); err != nil {
		t.Error(err)
	}
	slow.Close()
	if _, err := table.Watch(table.Oldest() - 1); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	table := NewStore().NewTable(spread(2))
	table.Fill([]Row{{Serial: 1}, {Serial: 2}, {Serial: 3}, {Serial: 4}})
	p := table.Picture("")
	table.Keep(p)
	if _, _, err := table.Insert(Item{Row: Row{Serial: 5}}); err != nil {
		t.Fatal(err)
	}
	kept, ok := table.Kept(p.Version, "")
	if !ok || len(kept.Items) != 4 {
		t.Fatal("the picture has changed")
	}
	for i, name := range []string{"ns-0/row-015838", "ns-0/row-031676", "ns-1/row-007919", "ns-1/row-023757"} {
		if got := kept.From(name[:4], name[5:]); got != i {
			t.Errorf("%s is at %d, not %d", name, got, i)
		}
	}
	for range pages {
		table.Keep(table.Picture("ns-0"))
	}
	if _, ok := table.Kept(p.Version, ""); ok {
		t.Error("kept for ever")
	}
}

// A row costs about its own size: a million of them are nothing.
func TestBytesPerRow(t *testing.T) {
	const n = 50_000
	fill := func() *Table {
		table := NewStore().NewTable(spread(20))
		rows := make([]Row, n)
		for i := range rows {
			rows[i].Serial = uint32(i)
		}
		table.Fill(rows)
		return table
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table := fill()
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRow := float64(after.HeapAlloc-before.HeapAlloc) / n
	runtime.KeepAlive(table)
	t.Logf("%.1f bytes a row", perRow)
	if perRow > 60 {
		t.Errorf("%.1f bytes a row, more than 60", perRow)
	}
}
