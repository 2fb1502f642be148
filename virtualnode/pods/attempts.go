package pods

import "time"

// A pod that is refused is tried again after attemptFirst, then every attemptEvery; and no more than attemptsAtMost times in
// attemptWindow, so that a lower cluster's webhooks are not asked for ever by every pod they refuse.
const (
	attemptFirst   = 2 * time.Second
	attemptEvery   = 20 * time.Second
	attemptsAtMost = 3
	attemptWindow  = time.Minute
)

// attempts are the latest ones of a pod that was refused, at most attemptsAtMost.
type attempts struct{ times []time.Time }

// refused notes an attempt.
func (a *attempts) refused(now time.Time) {
	a.times = append(a.times, now)
	if len(a.times) > attemptsAtMost {
		a.times = append([]time.Time(nil), a.times[len(a.times)-attemptsAtMost:]...)
	}
}

// wait is how long it is to the next attempt.
func (a *attempts) wait(now time.Time) time.Duration {
	if len(a.times) == 0 {
		return 0
	}
	pause := attemptEvery
	if len(a.times) == 1 {
		pause = attemptFirst
	}
	next := a.times[len(a.times)-1].Add(pause)
	if len(a.times) == attemptsAtMost {
		if window := a.times[0].Add(attemptWindow); window.After(next) {
			next = window
		}
	}
	return max(0, next.Sub(now))
}
