package lower

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/history"
)

// Times of finding out how a cluster answers.
const (
	probeInterval = 3 * time.Second
	probeTimeout  = 4 * time.Second // An API server that takes 2 s a call is slow, not away.

	identifyInterval = time.Minute
	pastInterval     = 5 * time.Second // between two looks at whether the history went back

	// A process that has not looked at its clock for longer than sleepAfter did not run: it was stopped, or starved.
	wakeInterval = 500 * time.Millisecond
	sleepAfter   = 3 * wakeInterval
)

// Health says how a lower cluster answers.
type Health struct {
	// Synced: nodes and pods have been listed at least once.
	Synced bool
	// Contact is when the API server last answered a probe or sent an event, or since when nodes or pods cannot be
	// listed and watched, if that is longer ago. A quiet cluster has fresh contact.
	Contact time.Time
	// Answered is when the API server last said anything at all, be it that it lets us do nothing: whoever answers lives.
	Answered time.Time
	// Slept is how long, at the least, this process itself did not run since the last answer: a silence of that time says
	// nothing of the cluster, though what is known of it is as old as Contact says.
	Slept time.Duration
	// Err is why the last probe, list or watch failed; nil if they all work.
	Err error
	// UID is that of the namespace kube-system, by which a cluster is known; "" before it is known, or where it may not be read.
	UID types.UID
	// Identified: it was asked for the UID, with or without success.
	Identified bool
}

// Unauthorized reports whether the API server did not accept the credentials when it was last asked.
func (h Health) Unauthorized() bool { return apierrors.IsUnauthorized(h.Err) }

// Health returns how the cluster answers now.
func (w *Watch) Health() Health {
	w.mu.Lock()
	w.look(time.Now())
	health := w.health
	w.mu.Unlock()
	for i := range w.sources {
		if since, err := w.sources[i].failing(); !since.IsZero() && since.Before(health.Contact) {
			health.Contact, health.Err = since, err
		}
	}
	return health
}

// probe asks the API server for its health, so that a quiet cluster does not look stale and a silent one does.
func (w *Watch) probe(ctx context.Context) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		w.identify(ctx) // First, as nothing may be done to a cluster before it is known to be the right one.
		w.contact(w.ask(ctx))
		w.readVersion(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// lookBack returns history.ErrWentBack when the cluster is found restored from a backup, and nil when ctx ends. It looks now and then,
// and at once when a cluster that was silent is back: that may be another history. The probe does not wait for it.
func (w *Watch) lookBack(ctx context.Context) error {
	ticker := time.NewTicker(wakeInterval)
	defer ticker.Stop()
	var looked time.Time // when there last was an answer; zero after a silence
	for {
		if w.Health().Err != nil {
			looked = time.Time{}
		} else if time.Since(looked) > pastInterval {
			if err := w.compare(ctx); errors.Is(err, history.ErrWentBack) {
				return err
			}
			looked = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// compare looks at the history once.
func (w *Watch) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return w.past.Look(ctx)
}

func (w *Watch) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := w.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("probing %s: %w", w.Name, err)
	}
	return nil
}

func (w *Watch) contact(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.Err = err
	switch {
	case err == nil:
		w.heard(time.Now())
	case Answer(err):
		w.said(time.Now())
	}
}

// Answer reports whether an error is what an API server said, and not what became of a connection. That of a server whose
// certificate does not verify is none: nobody knows who speaks.
func Answer(err error) bool {
	status := apierrors.APIStatus(nil)
	return errors.As(err, &status)
}

// identify reads the UID of the cluster if it is time to: at first, once a minute, and after every failed probe. One that may not
// be read is none: then the cluster is taken for what it is called.
func (w *Watch) identify(ctx context.Context) {
	w.mu.Lock()
	due := w.health.Err != nil || time.Since(w.identified) > identifyInterval
	w.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// The version 0 is an answer from memory, which is enough: a UID does not change.
	system, err := w.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{ResourceVersion: "0"})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.health.UID, w.health.Identified, w.identified = system.UID, true, time.Now()
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		if !w.health.Identified {
			w.Log.Warn("Who a lower cluster is cannot be read, it is taken for the one it is called", "err", err)
		}
		w.health.UID, w.health.Identified, w.identified = "", true, time.Now()
	}
}

// heard notes that the API server has answered. The caller holds the lock.
func (w *Watch) heard(now time.Time) {
	w.said(now)
	w.health.Err, w.health.Contact = nil, now
}

// said notes that the API server has said something. The caller holds the lock.
func (w *Watch) said(now time.Time) {
	w.look(now)
	w.health.Answered, w.health.Slept = now, 0
	if w.answer != nil {
		close(w.answer)
		w.answer = nil
	}
}

// look looks at the clock, and notes if this process did not run since it last did. The caller holds the lock.
func (w *Watch) look(now time.Time) {
	if gap := now.Sub(w.awake); gap > sleepAfter && !w.awake.IsZero() {
		w.health.Slept += gap - sleepAfter
	}
	w.awake = now
}

// stayAwake looks at the clock until ctx ends, so that whoever does not means that this process does not run.
func (w *Watch) stayAwake(ctx context.Context) {
	ticker := time.NewTicker(wakeInterval)
	defer ticker.Stop()
	for {
		w.mu.Lock()
		w.look(time.Now())
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// SetHealth lets a test say how the cluster answers; Run overwrites it.
func (w *Watch) SetHealth(h Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health = h
}
