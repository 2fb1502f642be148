package pair

import (
	"context"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
)

// Denied remembers whether a cluster does not let objects of a kind be watched, or does not have the kind. Its zero value is ready.
type Denied struct{ denied atomic.Bool }

// Handle is the informer's handler of errors.
func (d *Denied) Handle(ctx context.Context, reflector *cache.Reflector, err error) {
	d.denied.Store(apierrors.IsForbidden(err) || apierrors.IsNotFound(err))
	cache.DefaultWatchErrorHandler(ctx, reflector, err)
}

// Says reports whether that was the last error of a watch that has never listed. A watch that has goes on with what it knows.
func (d *Denied) Says(synced bool) bool { return d.denied.Load() && !synced }
