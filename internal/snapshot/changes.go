package snapshot

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Changes are what is to be told of a lower cluster since it was last told of, or all of it the first time.
type Changes struct {
	Cluster string
	// Nodes are those that are new or in another state, with all pods on them; Removed are names of those that have gone.
	Nodes   []*Node
	Removed []string
	// Own are the pods of our upper cluster that have changed, by the UID of the upper pod, finished ones too; nil for one that
	// has gone.
	Own map[types.UID]*LowerPod
	// Waiting are all unfinished pods that have no node yet, whoever's they are, Pods is the number of all unfinished ones.
	Waiting []*LowerPod
	Pods    int
	// Around is what is beside them; nil if nothing has changed there.
	Around *Surroundings

	names map[uint64]bool // that have changed, see LowerPod.names, and whether they are taken
}

// since is what a snapshot shows that is not in the cell.
func (s *Snapshot) since(c *cell) *Changes {
	changes := &Changes{
		Cluster: s.Cluster, Own: map[types.UID]*LowerPod{}, Waiting: s.waiting, Pods: s.Pods, Around: &s.around, names: map[uint64]bool{},
	}
	if c.same(s.around) {
		changes.Around = nil
	}
	for _, node := range s.Nodes {
		if row, there := c.rows[node.Name()]; !there || c.nodes[row] != node {
			changes.Nodes = append(changes.Nodes, node)
		}
	}
	for name := range c.rows {
		if _, there := s.index[name]; !there {
			changes.Removed = append(changes.Removed, name)
		}
	}
	for uid, own := range s.Own {
		if c.own[uid] != own {
			changes.Own[uid] = own
		}
	}
	for uid := range c.own {
		if s.Own[uid] == nil {
			changes.Own[uid] = nil
		}
	}
	for name := range c.names {
		changes.names[name] = false
	}
	for _, name := range s.names {
		changes.names[name] = true
	}
	return changes
}

// same reports whether two clusters have nothing else around them.
func (s *Surroundings) same(other Surroundings) bool {
	return (s.Namespaces == nil) == (other.Namespaces == nil) && maps.EqualFunc(s.Namespaces, other.Namespaces, maps.Equal) &&
		s.Version.String() == other.Version.String() && maps.Equal(s.Devices, other.Devices)
}

// News is what changes show for the first time.
type News struct {
	// Overpromised are the upper UIDs of pods of ours that the lower scheduler has found no node for.
	Overpromised []types.UID
	// Refused are pods of ours that the kubelets of their nodes did not let in.
	Refused []*LowerPod
}

// Publish tells the pool of a whole cluster, see Apply.
func (p *Pool) Publish(now time.Time, s *Snapshot) News {
	c := p.cells[s.Cluster]
	if c == nil {
		c = newCell(s.Cluster)
	}
	return p.Apply(now, s.since(c))
}

// Apply tells the pool what has changed in a cluster. In the same step the holds end whose pods count as usage from now on, so no
// view ever counts a pod twice or not at all, and holds whose node no longer has their room are placed anew.
func (p *Pool) Apply(now time.Time, changes *Changes) (news News) {
	c := p.cells[changes.Cluster]
	first := c == nil
	if first {
		c = p.found(changes.Cluster)
	}
	seated := c.guests
	c.unseat()
	p.takeOver(c, changes)
	was := c.replaceOwn(changes.Own)
	for _, uid := range slices.Sorted(maps.Keys(changes.Own)) {
		own, was := changes.Own[uid], was[uid]
		if own == nil {
			continue
		}
		if c.turnAway(now, was, own, first) {
			news.Refused = append(news.Refused, own)
		}
		p.seeOwn(c, uid, own)
		if own.Unschedulable && (was == nil || !was.Unschedulable) {
			news.Overpromised = append(news.Overpromised, uid)
		}
	}
	for uid := range c.holds { // Made since the pod was last seen.
		if own := c.own[uid]; own != nil && changes.Own[uid] == nil {
			p.seeOwn(c, uid, own)
		}
	}
	for uid, own := range changes.Own {
		if own == nil { // It was there and has gone: nothing is on its way any more.
			p.count(c.name, uid)
			if was[uid] != nil && was[uid].Node == "" {
				c.shaken++ // Over clusters it counted, and no row tells.
			}
		}
	}
	c.seat(&p.scale)
	c.gainSeats(seated)
	p.settle(c)
	return news
}

// found begins a cell, with the holds that there are in it.
func (p *Pool) found(name string) *cell {
	c := newCell(name)
	p.cells[name] = c
	for _, hold := range p.holds {
		if hold.Cluster == name {
			c.holds[hold.UID] = hold
			c.charge(hold, 1)
		}
	}
	return c
}

// replaceOwn takes over changed pods of ours, and returns what was there before.
func (c *cell) replaceOwn(changed map[types.UID]*LowerPod) (was map[types.UID]*LowerPod) {
	was = make(map[types.UID]*LowerPod, len(changed))
	for uid, own := range changed {
		was[uid] = c.own[uid]
		if own == nil {
			delete(c.own, uid)
		} else {
			c.own[uid] = own
		}
	}
	return was
}

// takeOver brings the rows of a cell in line, and what is around them.
func (p *Pool) takeOver(c *cell, changes *Changes) {
	c.view, c.waiting, c.pods = nil, changes.Waiting, changes.Pods
	other := false
	for _, name := range changes.Removed {
		c.drop(name)
		other = true
	}
	for _, node := range changes.Nodes {
		other = c.put(node) || other
	}
	for name, taken := range changes.names {
		if taken {
			c.names[name] = struct{}{}
		} else {
			delete(c.names, name)
		}
	}
	if around := changes.Around; around != nil {
		if !maps.EqualFunc(c.Namespaces, around.Namespaces, maps.Equal) {
			clear(c.counters)
		}
		c.Surroundings = *around
		c.shaken++
	}
	if other && c.measureLargest() {
		p.rescale()
	}
}
