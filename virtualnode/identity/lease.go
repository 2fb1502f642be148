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

// Times of a lease. Nobody's clock is compared with another's. Most who come find the lease of a predecessor who was killed, so quiet
// is short: one who is alive renews three times in it, or once where a call takes two seconds. He who is slower than that and loses
// the lease may write for up to valid after his last renewal; replicas of one upper cluster are kept apart by their election besides.
const (
	interval = 1500 * time.Millisecond // between two renewals
	retry    = 250 * time.Millisecond  // after one that failed
	timeout  = 4 * time.Second         // of a request
	valid    = 8 * time.Second         // after the last renewal
	quiet    = 5 * time.Second         // without a renewal means that whoever holds it has died; one that is seen, that he lives
	told     = 15 * time.Second        // without the lease, and nobody else having it, is a fault
	forsaken = 15 * time.Minute        // a lease that somebody was seen to hold is left alone: he may restart
)

// Lease is that of one virtual node, as this process sees it. Its methods are safe for concurrent use.
type Lease struct {
	leases coordinationclient.LeaseInterface
	log    *slog.Logger
	Asks

	name, me string
	labels   map[string]string

	mu        sync.Mutex
	held      time.Time // until when it is ours; zero before
	lost      time.Time // since when it is not
	unguarded bool      // the cluster has no such lease, or our account may not have it
	seen      bool      // it was read or written before, so that there is one to be had
	fault     string    // what the last attempt failed with; "" if it did not
	other     other
}

// Asks are what a lease asks, and tells.
type Asks struct {
	// Barred reports whether nothing may be written to the cluster for another reason.
	Barred func() bool
	// Accepted is the name of a holder whose lease may be taken from it, "" for none.
	Accepted func() string
	// Changed is called whenever Held or Taken say something else.
	Changed func()
}

// other is what is known of another holder.
type other struct {
	holder, version string
	since           time.Time // when this version was first seen
	alive           bool      // it was seen to renew
}

// New returns a lease that is not held yet.
func New(leases coordinationclient.LeasesGetter, identity, virtualNode string, log *slog.Logger, asks Asks) *Lease {
	return &Lease{
		leases: leases.Leases(keys.Namespace), log: log, Asks: asks,
		name: nameOf(identity, virtualNode),
		me:   rand.Text(), lost: time.Now(),
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

// Unheld says why the lease could not be had for a while although nobody else has it; "" otherwise.
func (l *Lease) Unheld() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.unguarded || l.other.alive || now.Before(l.held) || now.Sub(later(l.lost, l.held)) < told {
		return ""
	}
	return l.fault
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Run takes the lease and renews it until ctx ends, then gives it back.
func (l *Lease) Run(ctx context.Context) {
	var last *coordinationv1.Lease // as it was last written or read; nil for none
	for {
		pause := interval
		if last = l.step(ctx, last); last == nil && !l.Held() {
			pause = retry
		}
		select {
		case <-ctx.Done():
			l.release(context.WithoutCancel(ctx), last)
			return
		case <-time.After(pause):
		}
	}
}

// step renews, takes or looks at the lease. It returns it as it is then, nil if that is not known.
func (l *Lease) step(ctx context.Context, last *coordinationv1.Lease) *coordinationv1.Lease {
	held, taken := l.Held(), l.Taken()
	defer func() {
		if l.Held() != held || l.Taken() != taken {
			l.Changed()
		}
	}()
	if l.Barred() {
		return last
	}
	begin := time.Now()
	if last == nil || holderOf(last) != l.me {
		found, err := l.read(ctx)
		switch {
		case err == nil:
			last = found
			l.found()
		case apierrors.IsNotFound(err):
			last = nil
		default:
			l.failed(err)
			return nil
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
	l.held, l.unguarded, l.seen, l.fault, l.other = begin.Add(valid), false, true, "", other{}
	return written
}

// read reads the lease. As each request has its own time, a slow cluster's lease can be had.
func (l *Lease) read(ctx context.Context) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return l.leases.Get(ctx, l.name, metav1.GetOptions{})
}

// found notes that there is a lease to be had.
func (l *Lease) found() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen, l.unguarded = true, false
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
	if holder == l.me {
		return true
	}
	accepted := l.Accepted()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held.IsZero() { // It was ours, and was taken.
		l.held, l.lost = time.Time{}, now
	}
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
	case l.other.holder != "" && l.other.holder == accepted: // He may have given it back since.
		return true
	case l.other.alive:
		return silent >= forsaken
	}
	return holder == "" || silent >= quiet
}

// write makes the lease ours, or nobody's. last is what it replaces, nil if there is none.
func (l *Lease) write(ctx context.Context, last *coordinationv1.Lease, holder string, now time.Time) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at := metav1.NewMicroTime(now)
	seconds := int32(quiet.Seconds())
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

// failed notes that the lease could not be read or written. It is tried again, and what is held is held for a while. Where there was
// never one to be had, for want of a right or of the namespace, the cluster goes without.
func (l *Lease) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.fault
	l.fault = err.Error()
	if !l.seen && !l.unguarded && (apierrors.IsForbidden(err) || apierrors.IsNotFound(err)) {
		l.unguarded = true
		l.log.Warn("The lower cluster gives no lease, so a clone of the upper cluster would not be noticed: apply manifests/lower there",
			"lease", keys.Namespace+"/"+l.name, "err", err)
		return
	}
	if before == "" && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		l.log.Warn("The lease in the lower cluster cannot be had, trying again", "lease", keys.Namespace+"/"+l.name, "err", err)
	}
}

// release gives the lease back, so that the next process need not wait.
func (l *Lease) release(ctx context.Context, last *coordinationv1.Lease) {
	l.mu.Lock()
	l.held, l.lost = time.Time{}, time.Now()
	l.mu.Unlock()
	if last == nil || holderOf(last) != l.me || l.Barred() {
		return
	}
	if _, err := l.write(ctx, last, "", time.Now()); err != nil {
		l.log.Info("Giving back the lease failed, the next process waits a moment", "lease", l.name, "err", err)
	}
}
