package virtualnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/history"
)

// Times of the upper cluster's watch.
const (
	upperProbeInterval = 5 * time.Second
	upperProbeRetry    = time.Second // while it does not answer: what comes back may be another history
	upperProbeTimeout  = 5 * time.Second
)

// upperWatch notes when the upper cluster was last found not whole, and finds out when its history went back.
type upperWatch struct {
	log    *slog.Logger
	past   *history.Probe
	broken atomic.Pointer[time.Time]
	silent atomic.Bool
}

// newUpperWatch returns one; seen are resource versions of pods that watches have reached.
func newUpperWatch(client kubernetes.Interface, log *slog.Logger, seen func() []string) *upperWatch {
	u := &upperWatch{log: log, past: history.NewProbe(client, seen)}
	u.note()
	return u
}

// note takes down that the upper cluster is not whole at this moment.
func (u *upperWatch) note() {
	now := time.Now()
	u.broken.Store(&now)
}

// brokenAt is when the upper cluster was last found not whole; the start of this process at the earliest.
func (u *upperWatch) brokenAt() time.Time { return *u.broken.Load() }

// answers reports whether the last probe got an answer.
func (u *upperWatch) answers() bool { return !u.silent.Load() }

// watchFailed is the error handler of watches on the upper cluster. One that ends or has to list anew is no fault.
func (u *upperWatch) watchFailed(ctx context.Context, r *cache.Reflector, err error) {
	if !errors.Is(err, io.EOF) && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		u.note()
	}
	cache.DefaultWatchErrorHandler(ctx, r, err)
}

// run probes until ctx ends. It returns history.ErrWentBack when the history did.
func (u *upperWatch) run(ctx context.Context) error {
	for {
		pause := upperProbeInterval
		err := u.probe(ctx)
		if errors.Is(err, history.ErrWentBack) {
			return err
		}
		u.silent.Store(err != nil)
		if err != nil && ctx.Err() == nil {
			u.note()
			pause = upperProbeRetry
			u.log.Warn("The upper cluster does not answer", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (u *upperWatch) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upperProbeTimeout)
	defer cancel()
	return u.past.Look(ctx)
}
