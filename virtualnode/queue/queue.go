// Package queue is how virtualnode's reconcilers work: through keys of objects to be looked at, for ever. What fails is tried
// again with growing pauses, so no event can be lost for good.
package queue

import (
	"context"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
)

// Times of a queue.
const (
	attemptTimeout = 10 * time.Second
	resyncInterval = time.Minute
	resyncStep     = time.Second
)

// Queue holds keys, each once and in one worker's hands at a time.
type Queue struct {
	workqueue.TypedRateLimitingInterface[string]
	what string
	log  *slog.Logger
}

// New returns a queue of keys of what, for the log: "pod". first and slowest are the pauses before something that failed is
// tried again.
func New(what string, log *slog.Logger, first, slowest time.Duration) *Queue {
	return &Queue{what: what, log: log, TypedRateLimitingInterface: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](first, slowest))}
}

// Work hands keys to reconcile until the queue is shut down. again > 0 asks for another look after that time although
// nothing failed.
func (q *Queue) Work(ctx context.Context, reconcile func(ctx context.Context, key string) (again time.Duration, err error)) {
	for q.next(ctx, reconcile) {
	}
}

func (q *Queue) next(ctx context.Context, reconcile func(context.Context, string) (time.Duration, error)) bool {
	key, quit := q.Get()
	if quit {
		return false
	}
	defer q.Done(key)
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	again, err := reconcile(attempt, key)
	switch {
	case ctx.Err() != nil:
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		q.AddRateLimited(key) // A cache is behind: nothing to speak of.
	case err != nil:
		q.log.Warn("Not in line, trying again", q.what, key, "attempt", q.NumRequeues(key)+1, "err", err)
		q.AddRateLimited(key)
	default:
		q.Forget(key)
		if again > 0 {
			q.AddAfter(key, again)
		}
	}
	return true
}

// Resync has every key looked at once a minute until ctx ends: for what no event tells of, and in case an assumption about events
// is wrong somewhere. The keys are listed once a minute and handed to look a few each second, so that the whole is never looked
// at in one moment. What waits for its next attempt goes on waiting.
func Resync(ctx context.Context, keys func() []string, look func(key string)) {
	const steps = int(resyncInterval / resyncStep)
	ticker := time.NewTicker(resyncStep)
	defer ticker.Stop()
	var left []string
	for step := 0; ; step++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if step%steps == 0 {
			for _, key := range left { // None, unless a step is missing.
				look(key)
			}
			left = keys()
		}
		share := (len(left) + steps - step%steps - 1) / (steps - step%steps)
		for _, key := range left[:share] {
			look(key)
		}
		left = left[share:]
	}
}
