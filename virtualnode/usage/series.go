package usage

import "time"

// series is a counter of processor seconds, integrated from rates. It starts anew, with a time of its own, when what it counts for
// does, and with each process: who reads it sees by the start that it went back for a reason.
type series struct {
	instance    time.Time // when what is counted for began to run, zero where that is not known
	start, last time.Time
	seconds     float64
}

// add takes a rate in cores over the window that ended at a time. instance is when what is counted for began to run, zero where that
// is not known.
func (s *series) add(rate float64, at time.Time, window time.Duration, instance time.Time) {
	another := !instance.IsZero() && !s.instance.IsZero() && !instance.Equal(s.instance)
	if !instance.IsZero() {
		s.instance = instance
	}
	switch {
	case s.last.IsZero(), another && at.After(s.last):
		s.start = at.Add(-window)
		if instance.After(s.start) && instance.Before(at) {
			s.start = instance
		}
		s.seconds, s.last = rate*at.Sub(s.start).Seconds(), at
	case at.After(s.last):
		s.seconds += rate * at.Sub(s.last).Seconds()
		s.last = at
	}
}
