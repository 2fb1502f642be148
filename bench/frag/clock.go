package frag

import (
	"container/heap"
	"time"
)

// clock is virtual time: a heap of things to do. Two at the same moment are done in the order they were asked for, so
// that a run depends on its workload alone.
type clock struct {
	now    time.Duration
	events events
	asked  int
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

// after does something a while from now.
func (c *clock) after(wait time.Duration, do func()) {
	c.asked++
	heap.Push(&c.events, event{at: c.now + wait, order: c.asked, do: do})
}

// run does everything there is to do.
func (c *clock) run() {
	for len(c.events) > 0 {
		next := heap.Pop(&c.events).(event)
		c.now = next.at
		next.do()
	}
}

// wall is now as the production code wants it.
func (c *clock) wall() time.Time { return time.Unix(0, 0).Add(c.now) }

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
