package virtualnode

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Times of the upper cluster's watch.
const (
	upperProbeInterval = 5 * time.Second
	upperProbeRetry    = time.Second // while it does not answer: what comes back may be another history
	upperProbeTimeout  = 5 * time.Second
)

// errWentBack is an upper cluster whose resource versions are smaller than they were: it was restored from a backup.
//
// A watch that was open before goes on from the version that it had reached, and the API server passes on nothing until
// the new history has got there, silently. So everything has to be listed anew. (A backup restored with
// `etcdutl snapshot restore --bump-revision --mark-compacted` ends such watches by itself; not all are.)
var errWentBack = errors.New("the upper cluster has gone back in time: it was restored from a backup")

// upperWatch notes when the upper cluster was last found not whole, and finds out when its history went back.
type upperWatch struct {
	client kubernetes.Interface
	log    *slog.Logger
	broken atomic.Pointer[time.Time]
	silent atomic.Bool
	newest string // resource version of the whole cluster at the last probe; "" before the first
	// seen are resource versions of pods that watches have reached since, which may be newer.
	seen func() []string
}

func newUpperWatch(client kubernetes.Interface, log *slog.Logger, seen func() []string) *upperWatch {
	u := &upperWatch{client: client, log: log, seen: seen}
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

// run probes until ctx ends. It returns errWentBack when the history did.
func (u *upperWatch) run(ctx context.Context) error {
	for {
		pause := upperProbeInterval
		err := u.probe(ctx)
		if errors.Is(err, errWentBack) {
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

// probe reads the newest resource version, which the API server gets from etcd for it, and compares it with what was there
// before. Versions that cannot be compared are not: an API server of another make.
func (u *upperWatch) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upperProbeTimeout)
	defer cancel()
	before := u.newest
	for _, version := range u.seen() {
		if order, err := resourceversion.CompareResourceVersion(version, before); err == nil && order > 0 {
			before = version
		}
	}
	pods, err := u.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	order, err := resourceversion.CompareResourceVersion(pods.ResourceVersion, before)
	if err == nil && order < 0 {
		return errWentBack
	}
	u.newest = pods.ResourceVersion
	return nil
}
