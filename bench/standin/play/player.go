package play

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// tick is how often the player looks at what is due.
const tick = 20 * time.Millisecond

// Rates are what is played by itself. They may be changed at any time.
type Rates struct {
	// Churn is how many events a second pods make in all clusters together: one is deleted and another created in five
	// events, as a rollout does it.
	Churn float64
	// Heartbeat is how often a node's status is renewed; 0: never.
	Heartbeat time.Duration
}

// Player plays in all clusters, in one goroutine. Its choices follow from the seed.
type Player struct {
	sites []*Site
	rates atomic.Pointer[Rates]

	random *rand.Rand
	debt   float64 // events of churn that are due
	swaps  []swap  // under way, the next first
	due    timetable
	events []rows.Event // room for those that are read

	// Churned and Beats count events.
	Churned, Beats atomic.Int64
}

// NewPlayer returns a player that does nothing before Run.
func NewPlayer(seed uint64, sites []*Site, rates Rates) *Player {
	p := &Player{sites: sites, random: rand.New(rand.NewPCG(seed, 1<<40)), events: make([]rows.Event, 0, 256)}
	p.SetRates(rates)
	return p
}

// SetRates changes what is played from now on.
func (p *Player) SetRates(r Rates) { p.rates.Store(&r) }

// Rates are what is played.
func (p *Player) Rates() Rates { return *p.rates.Load() }

// Run plays until ctx ends.
func (p *Player) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, slow := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		p.step(now, min(now.Sub(last), time.Second)) // What could not be done in time is not made up for in a heap.
		if now.Sub(slow) > time.Second {
			slow = now
			p.slowly(now)
		}
		last = now
	}
}

func (p *Player) step(now time.Time, passed time.Duration) {
	rates := p.Rates()
	if rates.Heartbeat > 0 {
		for _, s := range p.sites {
			p.Beats.Add(int64(s.heartbeats(now, passed.Seconds()/rates.Heartbeat.Seconds())))
		}
	}
	p.debt += rates.Churn * passed.Seconds()
	for ; p.debt >= 1; p.debt-- {
		p.churn(rates.Churn, now)
	}
	for _, s := range p.sites {
		p.look(s, now)
	}
	for len(p.due) > 0 && !p.due[0].at.After(now) {
		next := heap.Pop(&p.due).(action)
		next.do(now)
	}
}

// slowly does what is done once a second.
func (p *Player) slowly(now time.Time) {
	for _, s := range p.sites {
		for key := range s.waiting {
			p.lookAt(s, key, now)
		}
		s.countQuotas()
	}
}

// heartbeats renews the status of that share of the nodes.
func (s *Site) heartbeats(now time.Time, share float64) int {
	n := s.nodes.Places()
	done := 0
	for s.beats += share * float64(n); s.beats >= 1; s.beats-- {
		s.beat = (s.beat + 1) % n
		if s.heartbeat(int32(s.beat), now) {
			done++
		}
	}
	return done
}

func (s *Site) heartbeat(place int32, now time.Time) bool {
	row, plain := s.nodes.Plain(place)
	if !plain {
		return false
	}
	_, ok := s.nodes.ChangeAt(place, row.Serial, func(r rows.Row) (rows.Row, bool) {
		r.Since = uint32(now.Unix())
		return r, false
	})
	return ok
}

// swap is a pod that makes room for another one.
type swap struct {
	site   *Site
	place  int32
	serial uint32
	shape  uint16
	node   int32
	stage  uint8
}

// The stages of a swap: what its next event is.
const (
	stageRemove = iota
	stageCreate
	stageBind
	stageRun
)

// churn makes one event. For about half a second's worth of events swaps are under way, so that each takes some time.
func (p *Player) churn(rate float64, now time.Time) {
	p.Churned.Add(1)
	if float64(len(p.swaps)) < max(1, rate/2) {
		if next, ok := p.begin(now); ok {
			p.swaps = append(p.swaps, next)
			return
		}
	}
	if len(p.swaps) == 0 {
		return
	}
	next := p.swaps[0]
	p.swaps = p.swaps[1:]
	if next.advance(now) {
		p.swaps = append(p.swaps, next)
	}
}

// begin deletes a pod that runs.
func (p *Player) begin(now time.Time) (swap, bool) {
	for range 20 {
		s := p.sites[p.random.IntN(len(p.sites))]
		n := s.pods.Places()
		if n == 0 {
			continue
		}
		place := int32(p.random.IntN(n))
		row, plain := s.pods.Plain(place)
		if !plain || row.State != objects.PodRunning {
			continue
		}
		row, ok := s.pods.ChangeAt(place, row.Serial, func(r rows.Row) (rows.Row, bool) {
			r.State, r.Ends = objects.PodEnding, uint32(now.Unix())+30
			return r, false
		})
		if ok {
			return swap{site: s, place: place, serial: row.Serial, shape: row.Shape, node: row.Node}, true
		}
	}
	return swap{}, false
}

// advance does the next event of a swap, and reports whether there are more. Where somebody else has got hold of the pod,
// there are none.
func (w *swap) advance(now time.Time) bool {
	s, seconds := w.site, uint32(now.Unix())
	change := func(to func(r rows.Row) (rows.Row, bool)) bool {
		_, ok := s.pods.ChangeAt(w.place, w.serial, to)
		w.stage++
		return ok
	}
	switch asks := s.maker.Asks(w.shape); w.stage {
	case stageRemove:
		if change(func(r rows.Row) (rows.Row, bool) { return r, true }) {
			s.give(int(w.node), asks)
		}
		return true
	case stageCreate:
		w.serial, w.stage, s.serial = s.serial, w.stage+1, s.serial+1
		_, place, err := s.pods.Insert(rows.Item{Row: rows.Row{Serial: w.serial, Born: seconds, Since: seconds, Node: -1, Shape: w.shape}})
		w.place = place
		return err == nil
	case stageBind:
		node := s.choose(asks)
		if node < 0 {
			return true // Another pod will make room.
		}
		w.node = int32(node)
		bound := change(func(r rows.Row) (rows.Row, bool) {
			r.Node, r.State, r.Since = w.node, objects.PodBound, seconds
			return r, false
		})
		if bound {
			s.take(node, asks)
		}
		return bound
	default:
		change(func(r rows.Row) (rows.Row, bool) {
			r.State, r.Since = objects.PodRunning, seconds
			return r, false
		})
		return false
	}
}

// action is something to be done at a time.
type action struct {
	at time.Time
	do func(now time.Time)
}

// timetable is a heap of actions.
type timetable []action

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timetable) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *timetable) Push(x any) { *t = append(*t, x.(action)) }

// Pop implements heap.Interface.
func (t *timetable) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (p *Player) at(when time.Time, do func(now time.Time)) { heap.Push(&p.due, action{when, do}) }
