package extender

import (
	"context"
	"sync/atomic"
	"time"
)

// Times of the view of the upper cluster.
const (
	upperProbeEvery   = 3 * time.Second
	upperProbeTimeout = 4 * time.Second
	// blindAfter is how long the upper API server may be silent before nothing is concluded any more from what its caches lack.
	// Two probes that fail: a watch whose connection has died without a word is noticed by client-go after 45 s only.
	blindAfter = 8 * time.Second
)

// upperView is how old what is known of the upper cluster may be. The zero value has never been looked at, and is not blind.
type upperView struct{ contact atomic.Pointer[time.Time] }

func (v *upperView) heard(now time.Time) { v.contact.Store(&now) }

// blind reports whether the upper API server has been silent for too long: its pods may have been bound, or made, without our
// having heard of it. No hold ends for their absence then, and no new room is promised.
func (v *upperView) blind(now time.Time) bool {
	contact := v.contact.Load()
	return contact != nil && now.Sub(*contact) > blindAfter
}

// watchUpper asks the upper API server for its health until ctx ends, by the connection that the watches use as well.
func (e *Extender) watchUpper(ctx context.Context) error {
	e.upperView.heard(time.Now())
	blind := false
	for {
		probe, cancel := context.WithTimeout(ctx, upperProbeTimeout)
		err := e.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(probe).Error()
		cancel()
		if err == nil {
			e.upperView.heard(time.Now())
		}
		if now := e.upperView.blind(time.Now()); now != blind {
			if blind = now; blind {
				e.log.Warn("The upper API server does not answer: no hold ends and no room is promised until it does", "err", err)
			} else {
				e.log.Info("The upper API server answers again")
				e.touch()
			}
		}
		if !sleep(ctx, upperProbeEvery) {
			return nil
		}
	}
}

// hungAfter is how long whoever has the lock may keep it before this process counts as hanging.
const hungAfter = 30 * time.Second

// beat takes the lock every second until ctx ends, and notes when it last had it.
func (e *Extender) beat(ctx context.Context) error {
	for {
		e.mu.Lock()
		now := time.Now() // The lock is what is waited for.
		e.mu.Unlock()
		e.alive.heard(now)
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}
