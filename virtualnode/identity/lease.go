// Package identity sees to it that one process alone writes to a lower cluster for a virtual node. The upper cluster has a lease for
// that, too, but a clone of the upper cluster has a clone of the lease: restored into a second cluster for a drill, virtualnode
// starts there by itself, under the same identity, and would take the pods of the first for its own. So there is a Lease below, in
// the namespace tessera-system, held under a name that is made up at every start and kept nowhere.
package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Times of a lease.
const (
	interval = 2 * time.Second // between two renewals
	retry    = interval / 8    // the first time, as all waits for it
	timeout  = 4 * time.Second // of a request

	// A holder that died without a word is waited for this long. A renewal seen meanwhile means that it lives.
	quiet = 5 * time.Second
	// A lease that was renewed longer ago, by our own clock, is nobody's.
	duration = 15 * time.Second
	// A lease that somebody was seen to hold is left alone until it was nobody's for so long: whoever has it restarts now and then.
	forsaken = 15 * time.Minute
)

// Lease is that of one virtual node, as this process sees it. Its methods are safe for concurrent use.
type Lease struct {
	leases coordinationclient.LeaseInterface
	log    *slog.Logger
	change func() // called when Held or Taken do
	accept func() string

	name, me string
	labels   map[string]string

	mu        sync.Mutex
	held      time.Time // until when it is ours; zero before
	unguarded bool      // the cluster has no such lease, or our account may not have it
	other     other
}

// other is what is known of another holder.
type other struct {
	holder, version string
	since           time.Time // when this version was first seen
	alive           bool      // it was seen to renew
}

// New returns a lease that is not held yet. accept is the name of a holder whose lease may be taken from it, "" for none; change is
// called whenever Held or Taken say something else.
func New(
	leases coordinationclient.LeasesGetter, identity, virtualNode string, log *slog.Logger, accept func() string, change func(),
) *Lease {
	return &Lease{
		leases: leases.Leases(keys.Namespace), log: log, accept: accept, change: change,
		name:   nameOf(identity, virtualNode),
		me:     rand.Text(),
		labels: map[string]string{keys.Upper: identity, keys.VirtualNode: virtualNode},
	}
}

// nameOf is the name of the lease. An identity may have characters in it that names may not.
func nameOf(identity, virtualNode string) string {
	return fmt.Sprintf("upper-%x", sha256.Sum256([]byte(identity+"/"+virtualNode)))[:38]
}

// Held reports whether this process may write now.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unguarded || time.Now().Before(l.held)
}

// Taken is the name of another process that holds the lease and lives, "" if there is none.
func (l *Lease) Taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.other.alive {
		return ""
	}
	return l.other.holder
}

// Run takes the lease and renews it until ctx ends, then gives it back.
func (l *Lease) Run(ctx context.Context) {
	var last *coordinationv1.Lease // as it was last written or read; nil for none
	pause := retry
	for {
		if last = l.step(ctx, last); last != nil {
			pause = interval
		}
		select {
		case <-ctx.Done():
			l.release(context.WithoutCancel(ctx), last)
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, interval)
	}
}

// step renews, takes or looks at the lease. It returns it as it is then, nil if that is not known.
func (l *Lease) step(ctx context.Context, last *coordinationv1.Lease) *coordinationv1.Lease {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	held, taken := l.Held(), l.Taken()
	defer func() {
		if l.Held() != held || l.Taken() != taken {
			l.change()
		}
	}()
	begin := time.Now()
	if last == nil || holderOf(last) != l.me {
		var err error
		if last, err = l.leases.Get(ctx, l.name, metav1.GetOptions{}); err != nil && !apierrors.IsNotFound(err) {
			l.failed(err)
			return nil
		} else if err != nil {
			last = nil
		}
	}
	if last != nil && !l.free(last, begin) {
		return last
	}
	written, err := l.write(ctx, last, l.me, begin)
	if err != nil {
		l.failed(err)
		return nil // To be read again.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held.IsZero() || l.other.alive {
		l.log.Info("Writing to the lower cluster from now on", "lease", l.name, "holder", l.me)
	}
	l.held, l.unguarded, l.other = begin.Add(duration), false, other{}
	return written
}

func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// free reports whether the lease is ours to write: it is our own, or nobody's, or of a process that has gone.
func (l *Lease) free(lease *coordinationv1.Lease, now time.Time) bool {
	holder := holderOf(lease)
	if holder == l.me || holder != "" && holder == l.accept() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = time.Time{} // If it was ours, it was taken.
	if lease.ResourceVersion != l.other.version {
		renewed := holder != "" && holder == l.other.holder
		if renewed && !l.other.alive {
			l.log.Error("Another virtualnode of this identity writes to the lower cluster: nothing is written there from here",
				"lease", l.name, "holder", holder)
		}
		if l.other.alive = l.other.alive || renewed; holder != "" || !l.other.alive {
			l.other.holder = holder
		}
		l.other.version, l.other.since = lease.ResourceVersion, now
	}
	silent := now.Sub(l.other.since)
	switch {
	case l.other.alive:
		return silent >= forsaken
	case holder == "":
		return true
	}
	return silent >= quiet || lease.Spec.RenewTime == nil || now.Sub(lease.Spec.RenewTime.Time) >= duration
}

// write makes the lease ours, or nobody's. last is what it replaces, nil if there is none.
func (l *Lease) write(ctx context.Context, last *coordinationv1.Lease, holder string, now time.Time) (*coordinationv1.Lease, error) {
	at := metav1.NewMicroTime(now)
	seconds := int32(duration.Seconds())
	if last == nil {
		return l.leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: l.name, Namespace: keys.Namespace, Labels: l.labels},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &at, RenewTime: &at,
			},
		}, metav1.CreateOptions{})
	}
	next := last.DeepCopy()
	next.Labels = l.labels
	if holderOf(last) != holder {
		next.Spec.AcquireTime = &at
	}
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &holder, &seconds, &at
	return l.leases.Update(ctx, next, metav1.UpdateOptions{}) // Its version makes it fail if somebody was faster.
}

// failed notes that the lease could not be read or written. Where there is none to be had, the cluster goes without.
func (l *Lease) failed(err error) {
	if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return // It is tried again, and what is held is held for a while.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unguarded {
		l.log.Warn("The lower cluster gives no lease, so a clone of the upper cluster would not be noticed: apply manifests/lower there",
			"lease", keys.Namespace+"/"+l.name, "err", err)
	}
	l.unguarded = true
}

// release gives the lease back, so that the next process need not wait.
func (l *Lease) release(ctx context.Context, last *coordinationv1.Lease) {
	l.mu.Lock()
	l.held = time.Time{}
	l.mu.Unlock()
	if last == nil || holderOf(last) != l.me {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := l.write(ctx, last, "", time.Now()); err != nil {
		l.log.Info("Giving back the lease failed, the next process waits a moment", "lease", l.name, "err", err)
	}
}
