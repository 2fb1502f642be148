// Package refusals is the book of pods that a lower cluster refuses, so that the next ones of their kind do not go there first.
package refusals

import (
	"cmp"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Bounds of the book.
const (
	mostOfNamespace = 20
	most            = 200

	firstTry   = time.Minute // until a pod of the kind is tried without making it
	longestTry = 30 * time.Minute
	// hangsFor is how long what no dry run can show is remembered: pods of the kind were made, and found no node.
	hangsFor = 10 * time.Minute
)

// Ledger is the book of one virtual node. It is safe for concurrent use.
type Ledger struct {
	changed func()

	mu      sync.Mutex
	entries map[key]*entry
}

type key struct{ namespace, pod string }

type entry struct {
	reason keys.Reason
	pod    *corev1.Pod // as it was sent; nil where a dry run shows nothing, or after a restart
	since  time.Time
	pause  time.Duration
	next   time.Time // to be tried, or forgotten if there is nothing to try
}

// New returns an empty book; changed is called whenever it says something else.
func New(changed func()) *Ledger { return &Ledger{changed: changed, entries: map[key]*entry{}} }

// Restore takes over what stood on the Node before this process started.
func (l *Ledger) Restore(known translate.Refusals, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range known {
		l.entries[key{one.Namespace, one.Pod}] = &entry{reason: one.Reason, since: now, next: now.Add(longestTry)}
	}
}

// Learn notes that a pod was refused. tries says whether a dry run tells when that is over.
func (l *Ledger) Learn(lower *corev1.Pod, reason keys.Reason, tries bool, now time.Time) {
	l.mu.Lock()
	at := key{lower.Namespace, translate.Likeness(lower)}
	known := l.entries[at]
	if known != nil && known.reason == reason {
		if known.pod == nil && tries {
			known.pod, known.pause, known.next = lower, firstTry, now.Add(firstTry)
		}
		if !tries {
			known.next = now.Add(hangsFor)
		}
		l.mu.Unlock()
		return
	}
	l.makeRoom(lower.Namespace)
	made := &entry{reason: reason, since: now, next: now.Add(hangsFor)}
	if tries {
		made.pod, made.pause, made.next = lower, firstTry, now.Add(firstTry)
	}
	l.entries[at] = made
	l.mu.Unlock()
	l.changed()
}

// makeRoom forgets the oldest entry of a namespace that has its share, and of the book if it is full. The caller holds the lock.
func (l *Ledger) makeRoom(namespace string) {
	oldest := func(of func(key) bool) (at key, count int) {
		for k, e := range l.entries {
			if !of(k) {
				continue
			}
			if count++; count == 1 || e.since.Before(l.entries[at].since) {
				at = k
			}
		}
		return at, count
	}
	if at, count := oldest(func(k key) bool { return k.namespace == namespace }); count >= mostOfNamespace {
		delete(l.entries, at)
	}
	if at, count := oldest(func(key) bool { return true }); count >= most {
		delete(l.entries, at)
	}
}

// Forget notes that a pod of the kind was taken, which disproves what was learnt for one of these reasons.
func (l *Ledger) Forget(lower *corev1.Pod, disproved ...keys.Reason) {
	l.mu.Lock()
	if len(l.entries) == 0 {
		l.mu.Unlock()
		return
	}
	at := key{lower.Namespace, translate.Likeness(lower)}
	known := l.entries[at]
	forgotten := known != nil && slices.Contains(disproved, known.reason)
	if forgotten {
		delete(l.entries, at)
	}
	l.mu.Unlock()
	if forgotten {
		l.changed()
	}
}

// Due returns the pods that are to be tried without making them, and forgets what has been remembered for long enough.
func (l *Ledger) Due(now time.Time) (try []*corev1.Pod) {
	l.mu.Lock()
	forgotten := false
	for at, e := range l.entries {
		switch {
		case now.Before(e.next):
		case e.pod == nil:
			delete(l.entries, at)
			forgotten = true
		default:
			e.pause = min(2*e.pause, longestTry)
			e.next = now.Add(e.pause)
			try = append(try, e.pod)
		}
	}
	l.mu.Unlock()
	if forgotten {
		l.changed()
	}
	return try
}

// Refusals are what the book says, in a fixed order.
func (l *Ledger) Refusals() translate.Refusals {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(translate.Refusals, 0, len(l.entries))
	for at, e := range l.entries {
		found = append(found, translate.Refusal{Namespace: at.namespace, Pod: at.pod, Reason: e.reason})
	}
	slices.SortFunc(found, func(a, b translate.Refusal) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod))
	})
	return found
}
