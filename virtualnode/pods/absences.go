package pods

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Lower pods that have gone without evidence are not believed at once when they are many: a lower cluster that was restored from a
// backup, or whose API server shows a part of what there is, would end everything above. Evidence is a deletion that was seen, a
// reason in the last status, or a node that went with them.
const (
	absenceSettles = 5 * time.Second // so that all that have gone together are counted together
	absencesAtMost = 5               // or a tenth of the pods, if that is more
	rememberGone   = 10 * time.Minute
	brakedAgain    = 30 * time.Second // until the next look at one that is braked; who says that it has gone, or its return, is sooner
)

// absences counts them by batches: those that were found missing at once, each within absenceSettles of the one before. A braked
// batch waits until somebody says that it is true; what is found missing later is another.
type absences struct {
	settle time.Duration

	mu       sync.Mutex
	missing  map[types.UID]absence   // by upper pod whose lower one is missing without evidence
	newest   *batch                  // the one that may still grow, nil before the first
	gone     map[types.UID]time.Time // upper pods whose lower ones were seen being deleted
	believed time.Time               // what was missing then is believed
}

// absence is that of one lower pod.
type absence struct {
	since time.Time
	batch *batch
}

// batch is what went at once.
type batch struct {
	last time.Time // when the newest of it was found missing
	size int       // of those that have not come back, failed, or gone above
}

func newAbsences() absences {
	return absences{settle: absenceSettles, missing: map[types.UID]absence{}, gone: map[types.UID]time.Time{}}
}

// saw notes that the deletion of the lower pod of an upper one was seen.
func (a *absences) saw(upper types.UID, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone[upper] = now
}

// take returns how long to wait before the absence of a lower pod is believed; 0 is now. evidence: there is a reason for it. of is
// the number of pods on the virtual node.
func (a *absences) take(upper types.UID, evidence bool, of int, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, seen := a.gone[upper]; seen || evidence {
		a.drop(upper)
		return 0
	}
	is, known := a.missing[upper]
	if !known {
		is = a.add(upper, now)
	}
	switch left := a.settle - now.Sub(is.batch.last); {
	case left > 0:
		return left
	case !is.since.After(a.believed):
		return 0
	case is.batch.size > limitOfAbsences(of):
		return brakedAgain
	}
	return 0
}

// braked is how long it is until a pod that is known to be missing has to be looked at again; 0 is now. So many are not asked for
// again and again for nothing.
func (a *absences) braked(upper types.UID, of int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	is, missing := a.missing[upper]
	if _, seen := a.gone[upper]; !missing || seen || !is.since.After(a.believed) || is.batch.size <= limitOfAbsences(of) {
		return 0
	}
	return brakedAgain
}

func (a *absences) add(upper types.UID, now time.Time) absence {
	if a.newest == nil || now.Sub(a.newest.last) > a.settle {
		a.newest = &batch{}
	}
	a.newest.last = now
	a.newest.size++
	is := absence{since: now, batch: a.newest}
	a.missing[upper] = is
	return is
}

func (a *absences) drop(upper types.UID) {
	if is, missing := a.missing[upper]; missing {
		is.batch.size--
		delete(a.missing, upper)
	}
}

func limitOfAbsences(of int) int { return max(absencesAtMost, of/10) }

// back notes that a pod is not missing any more.
func (a *absences) back(upper types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(upper)
}

// done forgets a pod that is not missing any more, was failed for it, or has gone above.
func (a *absences) done(upper types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(upper)
	delete(a.gone, upper)
}

// believe has all that is found missing until then be taken for gone.
func (a *absences) believe(until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.believed = until
}

// brake says why pods that are missing are not failed, "" if they are. charged is the number of pods on the virtual node.
func (a *absences) brake(charged func() int, cluster string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.missing) <= absencesAtMost {
		return "" // As always: nothing has to be counted.
	}
	of := charged()
	count := 0
	for _, is := range a.missing {
		if is.since.After(a.believed) && is.batch.size > limitOfAbsences(of) {
			count++
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d pods are missing in the lower cluster, and nobody saw them go: they are not replaced until they are "+
		"back, or `tessera orphans collect --cluster %s` says that they have gone", count, of, cluster)
}

// sweep forgets deletions that were seen long ago.
func (a *absences) sweep(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for upper, at := range a.gone {
		if now.Sub(at) > rememberGone {
			delete(a.gone, upper)
		}
	}
}
