package frag

import (
	"fmt"
	"slices"
	"time"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The times of the world. The delay from bind to the pod below is an option.
const (
	decisionTime = time.Millisecond       // one scheduling cycle above
	watchLag     = 10 * time.Millisecond  // from a change above to whoever watches it
	lowerCycle   = 50 * time.Millisecond  // from the pod below to the lower scheduler's decision
	publishEvery = 100 * time.Millisecond // changes below are gathered this long into one snapshot
)

// pod is a pod on its way through the simulation.
type pod struct {
	arrival
	hint  string
	node  *lowerNode
	below *snapshot.LowerPod
	// falselyRefused: refused at least once although a cluster with nothing on its way to it had room.
	falselyRefused bool
}

// simulation is one policy on one workload.
type simulation struct {
	clock
	policy   policy
	delay    time.Duration // from the bind above to the pod below
	clusters []*lowerCluster

	queue   []*pod // above, to be tried
	pending []*pod // above, tried and refused
	busy    bool   // the upper scheduler is in a cycle
	refused map[string]bool
	frozen  bool // pods do not end any more

	falseAccepts, falseRefusals, decisions int
	thinking                               time.Duration // real time spent in decide
}

// simulate runs one policy over the workload, and says how it ended.
func simulate(name string, w *workload, o Options) Result {
	s := &simulation{policy: newPolicy(name), delay: o.Delay, refused: map[string]bool{}}
	if name == Oracle { // One flat cluster whose scheduler knows all: nothing is ever on its way.
		s.delay = 0
		s.clusters = []*lowerCluster{newLowerCluster("flat", slices.Concat(w.clusters...))}
	} else {
		for i, nodes := range w.clusters {
			s.clusters = append(s.clusters, newLowerCluster(fmt.Sprintf("lower-%d", i+1), nodes))
		}
	}
	for _, cluster := range s.clusters {
		s.policy.publish(cluster.snapshot())
	}
	for _, a := range w.pods {
		p := &pod{arrival: a}
		s.after(a.at, func() { s.arrive(p) })
	}
	if last := w.pods[len(w.pods)-1].at; o.Lifetime > 0 {
		s.after(last, func() { s.frozen = true })
	}
	s.run()
	s.wake() // kube-scheduler, too, tries everything once more after a while.
	s.run()
	return s.result(name, len(w.pods))
}

// arrive puts a pod into the upper scheduler's queue.
func (s *simulation) arrive(p *pod) {
	s.queue = append(s.queue, p)
	s.next()
}

// next starts a cycle of the upper scheduler, which looks at one pod at a time.
func (s *simulation) next() {
	if s.busy || len(s.queue) == 0 {
		return
	}
	p := s.queue[0]
	s.queue = s.queue[1:]
	if s.refused[p.class] { // Nothing has grown since its like was refused.
		s.pending = append(s.pending, p)
		s.next()
		return
	}
	s.busy = true
	s.after(decisionTime, func() {
		s.busy = false
		s.try(p)
		s.next()
	})
}

// wake lets the upper scheduler try the refused pods again: something has grown.
func (s *simulation) wake() {
	clear(s.refused)
	s.queue = append(s.pending, s.queue...)
	s.pending = nil
	s.next()
}

// try is one decision about a pod.
func (s *simulation) try(p *pod) {
	start := time.Now()
	cluster, ok := s.policy.decide(s.wall(), p)
	s.thinking += time.Since(start)
	s.decisions++
	if !ok {
		s.pending = append(s.pending, p)
		s.refused[p.class] = true
		if !p.falselyRefused && s.room(p) {
			p.falselyRefused = true
			s.falseRefusals++
		}
		return
	}
	i := slices.IndexFunc(s.clusters, func(c *lowerCluster) bool { return c.name == cluster })
	s.bind(p, s.clusters[i])
}

// room reports whether a quiet cluster could take the pod: nothing on its way to it, nothing changed unseen.
func (s *simulation) room(p *pod) bool {
	return slices.ContainsFunc(s.clusters, func(c *lowerCluster) bool { return c.coming == 0 && !c.dirty && c.takes(p) })
}

func (s *simulation) bind(p *pod, c *lowerCluster) {
	c.coming++
	s.tell(snapshot.UpperPod{UID: p.pod.UID, Cluster: c.name, Pod: p.asked})
	s.after(s.delay, func() {
		p.hint = s.policy.hint(p.pod.UID)
		c.own[p.pod.UID] = &snapshot.LowerPod{Requests: p.asked.Requests, UpperUID: p.pod.UID, Hint: p.hint}
		s.changed(c)
		cycle := lowerCycle
		if s.delay == 0 {
			cycle = 0
		}
		s.after(cycle, func() { s.scheduleBelow(p, c) })
	})
}

// tell lets the policy see a change above after the lag of a watch.
func (s *simulation) tell(u snapshot.UpperPod) {
	s.after(watchLag, func() { s.policy.observe(s.wall(), u) })
}

// scheduleBelow is the first try of the lower scheduler.
func (s *simulation) scheduleBelow(p *pod, c *lowerCluster) {
	c.coming--
	s.changed(c)
	if node := c.choose(p, p.hint); node != nil {
		s.start(p, c, node)
		return
	}
	s.falseAccepts++
	c.own[p.pod.UID] = &snapshot.LowerPod{Requests: p.asked.Requests, UpperUID: p.pod.UID, Hint: p.hint, Unschedulable: true}
	c.waiting = append(c.waiting, p)
}

func (s *simulation) start(p *pod, c *lowerCluster, node *lowerNode) {
	c.put(p, node)
	s.changed(c)
	if p.lifetime > 0 {
		s.after(p.lifetime, func() { s.end(p, c) })
	}
}

func (s *simulation) end(p *pod, c *lowerCluster) {
	if s.frozen {
		return
	}
	c.remove(p)
	c.grew = true
	s.changed(c)
	s.tell(snapshot.UpperPod{UID: p.pod.UID, Finished: true})
	s.tell(snapshot.UpperPod{UID: p.pod.UID, Gone: true})
	waiting := c.waiting
	c.waiting = nil
	for _, other := range waiting {
		if node := c.choose(other, other.hint); node != nil {
			s.start(other, c, node)
		} else {
			c.waiting = append(c.waiting, other)
		}
	}
}

// changed publishes the cluster soon, and wakes what waits above if it has grown.
func (s *simulation) changed(c *lowerCluster) {
	if c.dirty {
		return
	}
	c.dirty = true
	every := publishEvery
	if s.delay == 0 {
		every = 0
	}
	s.after(every, func() {
		c.dirty = false
		s.policy.publish(c.snapshot())
		if c.grew {
			c.grew = false
			s.wake()
		}
	})
}

// result reads the end of the simulation, when nothing moves any more.
func (s *simulation) result(name string, asked int) Result {
	r := Result{Policy: name, Asked: asked, PendingAbove: len(s.pending),
		FalseAccepts: s.falseAccepts, FalseRefusals: s.falseRefusals, Decisions: s.decisions}
	var used, all snapshot.Resources
	for _, c := range s.clusters {
		r.StuckBelow += len(c.waiting)
		for _, node := range c.nodes {
			used, all = used.Plus(node.seen.Used), all.Plus(node.seen.Allocatable)
		}
	}
	r.Placed = asked - r.StuckBelow - r.PendingAbove
	for _, p := range s.pending {
		if s.room(p) {
			r.RefusedWithRoom++
		}
	}
	r.CPUAllocated = share(used.MilliCPU, all.MilliCPU)
	r.GPUAllocated = share(used.Get(gpuShare), all.Get(gpuShare))
	r.DecisionsPerSecond = float64(s.decisions) / max(s.thinking.Seconds(), 1e-9)
	return r
}
