package snapshot

import (
	"cmp"
	"slices"
)

// guest is a waiting pod of a lower cluster on the node that its scheduler is about to put it on: a stranger's pod, or one
// of ours that has no hold (any more).
type guest struct {
	pod *Pod
	row int
}

// seat puts the waiting pods of the cluster where its scheduler is likely to: first those that it has nominated a node
// for, as it keeps that room for them, then by priority and age. What fits nowhere takes no room, but it is looked at
// again at every snapshot and so comes before any pod of ours that wants room which has just appeared.
//
// Left out: pods behind a gate, pods of a lower priority than ours (which have none), and those that the scheduler has
// refused for something that the columns do not see.
func (c *cell) seat(scale *scale) {
	if len(c.waiting) == 0 {
		return
	}
	waiting := slices.DeleteFunc(slices.Clone(c.waiting), func(pod *LowerPod) bool {
		return pod.asks == nil || pod.terminating || c.holds[pod.UpperUID] != nil ||
			!pod.nominated() && (pod.Gated || pod.Priority < 0 || pod.Unschedulable && pod.asks.Inexact)
	})
	slices.SortStableFunc(waiting, func(a, b *LowerPod) int {
		return cmp.Or(-cmp.Compare(rank(a), rank(b)), -cmp.Compare(a.Priority, b.Priority), a.Created.Compare(b.Created))
	})
	for _, pod := range waiting[:min(mostSeated, len(waiting))] {
		row, ok := c.rows[pod.Hint]
		if !ok || !pod.nominated() {
			row = c.roomiest(pod.asks, scale)
		}
		if row < 0 {
			continue
		}
		c.guests = append(c.guests, guest{pod: pod.asks, row: row})
		c.take(row, pod.asks.Requests, pod.asks.unsaid, 1)
		c.among(pod.asks, 1)
	}
}

// gainSeats remembers which rows have room again as somebody who sat there before does no more.
func (c *cell) gainSeats(before []guest) {
	for _, g := range before {
		if !slices.Contains(c.guests, g) {
			c.gained.add(int32(g.row))
			c.easeAll(g.pod)
		}
	}
}

// mostSeated bounds the work of a snapshot: behind so many waiting pods nobody's turn comes soon.
const mostSeated = 500

// unseat gives back what the waiting pods took.
func (c *cell) unseat() {
	for _, g := range c.guests {
		c.take(g.row, g.pod.Requests, g.pod.unsaid, -1)
		c.among(g.pod, -1)
	}
	c.guests = nil
}

// nominated reports whether the lower scheduler keeps room for the pod on a node: not for one of ours that it has tried
// there in vain.
func (l *LowerPod) nominated() bool { return l.Hint != "" && (l.UpperUID == "" || !l.Unschedulable) }

func rank(pod *LowerPod) int {
	if pod.nominated() {
		return 1
	}
	return 0
}

// roomiest is the node that the default scheduler (LeastAllocated) is likely to choose, of several the first by name; -1 if none takes
// the pod. What cannot be better than what is found is passed over a chunk at a time.
func (c *cell) roomiest(pod *Pod, scale *scale) int {
	a := c.ask(pod, scale)
	a.turned = nil // The lower scheduler does not know what kubelets have said.
	within := units(c.room.names, c.largest)
	best, most := int32(-1), 0.0
	for _, of := range c.classes {
		if !a.byNode && a.ofClass(of) != "" {
			continue
		}
		for _, k := range slices.Backward(of.chunks) {
			if !a.mayHold(k) || best >= 0 && k.mostShares(within) < most {
				continue
			}
			for _, row := range k.rows {
				if a.takes(int(row)) != "" {
					continue
				}
				left := c.room.shares(int(row), within)
				if best < 0 || left > most || left == most && compareNodes(c.nodes[row], c.nodes[best]) < 0 {
					best, most = row, left
				}
			}
		}
	}
	return int(best)
}
