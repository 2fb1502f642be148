package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// What a Node shows as its room changes with every pod that anybody makes or ends below, and every write of a Node has kube-scheduler
// try all refused pods again. The number only has to be large enough: its resource filter must not refuse what the extender takes.
// So it is written when it is about to be too small, and otherwise when it has been wrong for some time.
const (
	wrongBy  = 0.05 // of what it should be
	wrongFor = time.Minute
)

// room is what is remembered of the number that was written last. The zero value has written none.
type room struct {
	largest snapshot.Resources // of the nodes then
	wrong   time.Time          // since when it is off; zero if it is not
}

// wrote notes that the number was written.
func (r *room) wrote(facts Facts) {
	*r = room{}
	if facts.Snapshot != nil {
		r.largest = facts.Snapshot.Largest()
	}
}

// due reports whether the number of the Node as it was last written has to be written anew. again > 0 is when to ask once more.
func (r *room) due(facts Facts, last *corev1.Node, now time.Time) (due bool, again time.Duration) {
	if facts.Snapshot == nil {
		return true, 0
	}
	largest := facts.Snapshot.Largest()
	wanted, shown := facts.advertised(), snapshot.FromList(last.Status.Allocatable)
	if !sameAmounts(largest, r.largest) || scarce(wanted, shown, facts.Own, largest) {
		return true, 0
	}
	if !off(wanted, shown) {
		r.wrong = time.Time{}
		return false, 0
	}
	if r.wrong.IsZero() {
		r.wrong = now
	}
	left := wrongFor - now.Sub(r.wrong)
	return left <= 0, max(0, left)
}

// scarce reports whether the number leaves less than one and a half of the largest node to pods that are to come, though more is
// free, or lacks a resource.
func scarce(wanted, shown, own, largest snapshot.Resources) (scarce bool) {
	wanted.Each(func(name corev1.ResourceName, amount int64) {
		left := shown.Get(name) - own.Get(name)
		if amount > shown.Get(name) && 2*left < 3*largest.Get(name) {
			scarce = true
		}
	})
	return scarce || !sameNames(wanted, shown)
}

// off reports whether some number differs by more than wrongBy of what it should be.
func off(wanted, shown snapshot.Resources) (off bool) {
	wanted.Each(func(name corev1.ResourceName, amount int64) {
		difference := amount - shown.Get(name)
		if float64(max(difference, -difference)) > wrongBy*float64(amount) {
			off = true
		}
	})
	return off
}

func sameAmounts(a, b snapshot.Resources) bool {
	same := sameNames(a, b)
	a.Each(func(name corev1.ResourceName, amount int64) { same = same && b.Get(name) == amount })
	return same
}

func sameNames(a, b snapshot.Resources) bool {
	if len(a.Scalars) != len(b.Scalars) {
		return false
	}
	for name := range a.Scalars {
		if _, ok := b.Scalars[name]; !ok {
			return false
		}
	}
	return true
}
