package orphans

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Times and limits of the ledger.
const (
	// settle is the least age at which an orphan counts for the brake that is shown, and may be collected. Caches and
	// their handlers are behind each other for moments, and a survey must have seen all of a crowd before one goes.
	settle = 3 * time.Second
	// remember is how long a deletion that was seen stays known after the last pod of it was. It outlasts every creation
	// that was under way meanwhile.
	remember = 10 * time.Minute
	// few orphans never put the brake on, and neither does one in share of the unfinished pods.
	few, share = 5, 10
)

// Orphan is a lower pod of ours whose upper pod is not there (any more, or not yet again).
type Orphan struct {
	Namespace, Name           string // below
	UpperNamespace, UpperName string
	UID, UpperUID             types.UID
	Finished                  bool
	// Since is when it was first seen as an orphan; set by the ledger.
	Since time.Time
}

// Ledger is the book. Its methods may be called from any goroutine. It starts anew with the process, so that what it
// allows comes later then, never sooner.
type Ledger struct {
	grace time.Duration
	whole func() time.Time

	mu      sync.Mutex
	entries map[types.UID]*entry    // by the UID of the lower pod
	deleted map[types.UID]time.Time // upper pods whose deletion was seen, and when that last mattered
	known   int                     // unfinished lower pods at the last survey, orphans among them
	crowded bool                    // more orphans than the limit, as of the last survey
	brake   string                  // what is said about that; ""
}

type entry struct {
	Orphan
	confirmed bool // the upper API server itself has said so
	released  bool // somebody has asked for its collection
	looked    bool // a look was asked for since it is due
}

// New returns an empty ledger. grace counts from when an orphan was first seen and from whole(), the time when the upper
// cluster was last found not whole, whichever is later.
func New(grace time.Duration, whole func() time.Time) *Ledger {
	return &Ledger{
		grace: max(grace, settle), whole: whole,
		entries: map[types.UID]*entry{}, deleted: map[types.UID]time.Time{},
	}
}

// Saw notes that this process saw the deletion of an upper pod, or that it was asked for.
func (l *Ledger) Saw(upper types.UID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted[upper] = now
}

// HasSeen reports whether Saw was called for that upper pod.
func (l *Ledger) HasSeen(upper types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.deleted[upper]
	return ok
}

// Survey takes the newest picture: all lower pods that are not being deleted and whose upper pod is absent from the
// cache, and how many of all lower pods have not finished. It returns those to look at: new ones, to be confirmed, and
// those that may be collected from now on.
func (l *Ledger) Survey(found []Orphan, unfinished int, now time.Time) (look []Orphan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = unfinished
	entries := make(map[types.UID]*entry, len(found))
	for _, o := range found {
		if _, ok := l.deleted[o.UpperUID]; ok {
			l.deleted[o.UpperUID] = now // It is collected for that, and stays known until it is.
			continue
		}
		e := l.entries[o.UID]
		if e == nil || e.UpperUID != o.UpperUID {
			e = &entry{Orphan: o}
			e.Since = now
			look = append(look, e.Orphan)
		}
		e.Finished = o.Finished
		entries[o.UID] = e
	}
	l.entries = entries
	for uid, at := range l.deleted {
		if now.Sub(at) > remember {
			delete(l.deleted, uid)
		}
	}
	l.crowded = l.crowd(now) > l.limit()
	l.brake = l.judge(now)
	for _, e := range l.entries {
		if due := l.due(e, now); due && !e.looked {
			look = append(look, e.Orphan)
			e.looked = true
		}
	}
	return look
}

// Confirm notes that the upper API server says of an orphan that its upper pod is not there. One that the survey has
// not come across yet is none so far.
func (l *Ledger) Confirm(lower types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[lower]; e != nil {
		e.confirmed = true
	}
}

// Due reports whether an orphan may be collected now.
func (l *Ledger) Due(lower types.UID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[lower]
	return e != nil && l.due(e, now)
}

func (l *Ledger) due(e *entry, now time.Time) bool {
	since := e.Since
	if whole := l.whole(); whole.After(since) {
		since = whole
	}
	return e.confirmed && (e.released || (!l.crowded && now.Sub(since) >= l.grace))
}

// crowd counts the unfinished orphans that were there at a time. Those that somebody has released count no more.
func (l *Ledger) crowd(at time.Time) int {
	count := 0
	for _, e := range l.entries {
		if !e.Finished && !e.released && !e.Since.After(at) {
			count++
		}
	}
	return count
}

// limit is how many orphans at once are collected without asking.
func (l *Ledger) limit() int { return max(few, l.known/share) }

// judge returns the text of the brake, or "". A pod that finished is no loss and never puts it on.
func (l *Ledger) judge(now time.Time) string {
	count := l.crowd(now.Add(-settle))
	if count <= l.limit() {
		return ""
	}
	return fmt.Sprintf("%d of %d pods that came through this node have no upper pod any more; more than %d are not collected unasked. "+
		"See `tessera orphans list`; once their replacements run, or if they are not wanted: `tessera orphans collect`",
		count, l.known, l.limit())
}

// Brake says why nothing is collected, as of the last survey; "" if the brake is off.
func (l *Ledger) Brake() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.brake
}

// Orphans lists the orphans that the upper API server has confirmed, by lower namespace and name.
func (l *Ledger) Orphans() []Orphan { return l.pick(func(*entry) {}) }

// Release lets the confirmed orphans of this moment be collected at once, whatever the brake and the grace say, and
// returns them. Later ones wait as ever.
func (l *Ledger) Release() []Orphan { return l.pick(func(e *entry) { e.released = true }) }

func (l *Ledger) pick(change func(*entry)) []Orphan {
	l.mu.Lock()
	defer l.mu.Unlock()
	picked := []Orphan{}
	for _, e := range l.entries {
		if e.confirmed {
			change(e)
			picked = append(picked, e.Orphan)
		}
	}
	slices.SortFunc(picked, func(a, b Orphan) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return picked
}
