package snapshot

import (
	"slices"

	"k8s.io/apimachinery/pkg/selection"
)

// termIndex has terms of the pods of a cell, those that keep others away or those that draw them: each once however many replicas
// share it, and the rows of those that have it. It is kept so that a pod is compared with those alone that may speak of it.
type termIndex struct {
	byID  map[string]*indexed
	some  map[string][]*indexed // by namespace and, where a selector wants one, a value of a label
	other map[*term]*indexed    // those that select namespaces by label
}

type indexed struct {
	term *term
	rows map[int32]int32 // how many pods of a row have it
	keys []string        // in some
}

func newTermIndex() termIndex {
	return termIndex{byID: map[string]*indexed{}, some: map[string][]*indexed{}, other: map[*term]*indexed{}}
}

func (x *termIndex) empty() bool { return len(x.byID)+len(x.other) == 0 }

// change replaces the terms of the pods of a row.
func (x *termIndex) change(row int, before, after []*term) {
	for _, t := range before {
		x.remove(row, t)
	}
	for _, t := range after {
		x.add(row, t)
	}
}

func (x *termIndex) add(row int, t *term) {
	var of *indexed
	if t.id == "" {
		of = x.other[t]
	} else {
		of = x.byID[t.key+" "+t.id]
	}
	if of == nil {
		of = &indexed{term: t, rows: map[int32]int32{}}
		if t.id == "" {
			x.other[t] = of
		} else {
			x.byID[t.key+" "+t.id] = of
			of.keys = t.places()
			for _, key := range of.keys {
				x.some[key] = append(x.some[key], of)
			}
		}
	}
	of.rows[int32(row)]++
}

func (x *termIndex) remove(row int, t *term) {
	of := x.other[t]
	if t.id != "" {
		of = x.byID[t.key+" "+t.id]
	}
	if of.rows[int32(row)]--; of.rows[int32(row)] > 0 {
		return
	}
	if delete(of.rows, int32(row)); len(of.rows) > 0 {
		return
	}
	if t.id == "" {
		delete(x.other, t)
		return
	}
	delete(x.byID, t.key+" "+t.id)
	for _, key := range of.keys {
		if left := slices.DeleteFunc(x.some[key], func(i *indexed) bool { return i == of }); len(left) > 0 {
			x.some[key] = left
		} else {
			delete(x.some, key)
		}
	}
}

// places are where a term is looked for: under a label that every pod which it means has, if there is one.
func (t *term) places() []string {
	label := ""
	if requirements, ok := t.pods.Requirements(); ok {
		for _, r := range requirements {
			switch r.Operator() {
			case selection.Equals, selection.DoubleEquals, selection.In:
				if values := r.Values(); values.Len() == 1 {
					label = "\x00" + r.Key() + "\x00" + values.UnsortedList()[0]
				}
			}
		}
	}
	var places []string
	for _, namespace := range t.namespaces {
		places = append(places, namespace+label)
	}
	return slices.Compact(places)
}

// about visits the terms that may speak of a pod, and more.
func (x *termIndex) about(pod *tenant, visit func(*term, map[int32]int32)) {
	if x.empty() {
		return
	}
	for _, of := range x.other {
		visit(of.term, of.rows)
	}
	for _, of := range x.some[pod.namespace] {
		visit(of.term, of.rows)
	}
	for key := range pod.labels {
		value := pod.Get(key)
		for _, of := range x.some[pod.namespace+"\x00"+key+"\x00"+value] {
			visit(of.term, of.rows)
		}
	}
}

// among counts a pod on its way among those that keep others away, and those that draw them; -1 takes it out.
func (c *cell) among(pod *Pod, sign int) {
	if len(pod.apart) > 0 {
		c.apart += sign
	}
	if len(pod.draws) > 0 {
		c.drawing += sign
	}
}

// reindex replaces the terms of a row's pods; nil is no node.
func (c *cell) reindex(row int, before, after *Node) {
	var none Node
	if before == nil {
		before = &none
	}
	if after == nil {
		after = &none
	}
	c.terms.change(row, before.apart, after.apart)
	c.draws.change(row, before.draws, after.draws)
}
