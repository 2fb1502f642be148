package lower

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A watch that is open still brings events when its credentials have been revoked: they hide nothing.
func TestEventsDoNotHideRevokedCredentials(t *testing.T) {
	t.Parallel()
	w := &Watch{wake: make(chan struct{}, 1)}
	w.contact(nil)
	before := w.Health().Contact
	w.contact(fmt.Errorf("probing v: %w", apierrors.NewUnauthorized("Unauthorized")))
	w.see()
	if got := w.Health(); !apierrors.IsUnauthorized(got.Err) || !got.Contact.Equal(before) {
		t.Errorf("got %+v", got)
	}
	w.contact(fmt.Errorf("probing v: %w", apierrors.NewTimeoutError("slow", 1)))
	w.see()
	if got := w.Health(); got.Err != nil || got.Contact.Equal(before) {
		t.Errorf("an event makes up for a slow probe: %+v", got)
	}
}
