package lower

import (
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A watch that is open still brings events when its credentials have been revoked: they hide nothing.
func TestEventsDoNotHideRevokedCredentials(t *testing.T) {
	t.Parallel()
	w := &Watch{wake: make(chan struct{}, 1)}
	w.contact(nil)
	before := w.Health().Contact
	w.contact(fmt.Errorf("probing v: %w", apierrors.NewUnauthorized("Unauthorized")))
	w.see(true)
	if got := w.Health(); !apierrors.IsUnauthorized(got.Err) || !got.Contact.Equal(before) {
		t.Errorf("got %+v", got)
	}
	w.contact(fmt.Errorf("probing v: %w", apierrors.NewTimeoutError("slow", 1)))
	w.see(true)
	if got := w.Health(); got.Err != nil || got.Contact.Equal(before) {
		t.Errorf("an event makes up for a slow probe: %+v", got)
	}
}

// A process that is stopped hears nothing, which says nothing of the cluster; what it knows is old all the same.
func TestSleepIsNoSilence(t *testing.T) {
	t.Parallel()
	w := &Watch{wake: make(chan struct{}, 1)}
	start := time.Unix(1000, 0)
	w.heard(start)
	for _, c := range []struct{ at, slept time.Duration }{
		{time.Second, 0}, {2 * time.Second, 0}, {12 * time.Second, 10*time.Second - sleepAfter}, {13 * time.Second, 10*time.Second - sleepAfter},
		{20 * time.Second, 17*time.Second - 2*sleepAfter},
	} {
		w.look(start.Add(c.at))
		if got := w.health; got.Slept != c.slept || !got.Contact.Equal(start) {
			t.Errorf("after %s: slept %s, want %s; contact %s", c.at, got.Slept, c.slept, got.Contact)
		}
	}
	w.heard(start.Add(30 * time.Second))
	if got := w.health; got.Slept != 0 || !got.Contact.Equal(start.Add(30*time.Second)) {
		t.Errorf("after an answer: %+v", got)
	}
}
