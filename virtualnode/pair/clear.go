package pair

import (
	"context"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// clearInterval is the pause between two attempts to clear.
const clearInterval = 10 * time.Second

// Clear takes away what an earlier configuration left below, which this one does not want: once, as soon as the cluster is not held up
// and lets it. Where the account may not, there is nothing of ours.
func Clear(ctx context.Context, log *slog.Logger, what string, heldUp func() bool, clear func(context.Context) error) {
	ticker := time.NewTicker(clearInterval)
	defer ticker.Stop()
	for {
		if !heldUp() {
			err := clear(ctx)
			if err == nil || apierrors.IsForbidden(err) {
				return
			}
			log.Warn("What is not wanted any more is still below, trying again", "what", what, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
