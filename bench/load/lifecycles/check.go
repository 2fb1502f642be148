package lifecycles

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// instance is one upper pod of the driver's and what the driver did with it.
type instance struct {
	kind, name string
	uid        types.UID
	// deleted: the driver has deleted the upper pod. stays: it is to run to the end. refused: it must never run.
	deleted, stays, refused bool
	// trouble says what the driver waited for in vain; "" if nothing.
	trouble string
}

// evidence is what the verdict rests on.
type evidence struct {
	instances []*instance
	// above and below is what the watches saw; bound are the lower pods that the lower scheduler has bound, name by UID, by
	// its own events.
	above, below map[types.UID]life
	bound        map[types.UID]string
	// leftAbove and leftBelow is what the API servers list at the end, in all namespaces.
	leftAbove, leftBelow []corev1.Pod
	// brought are the objects below that came along with pods; at the end no pod needs any.
	brought []string
	// planted and found are the versions of what belongs to others, before and after.
	planted, found map[string]string
}

// Verdict names what went wrong; each line one thing.
type Verdict struct {
	Lost     []string `json:"lost"`
	Doubled  []string `json:"doubled"`
	Orphaned []string `json:"orphaned"`
	Changed  []string `json:"changed"`
}

// OK reports whether nothing went wrong.
func (v Verdict) OK() bool { return len(v.Lost)+len(v.Doubled)+len(v.Orphaned)+len(v.Changed) == 0 }

// check judges the evidence.
func check(e evidence) Verdict {
	return Verdict{Lost: e.lost(), Doubled: e.doubled(), Orphaned: e.orphaned(), Changed: e.changed()}
}

// lost are pods that did not become what they had to, and pods that went although nobody wanted it.
func (e evidence) lost() (lines []string) {
	left := map[types.UID]*corev1.Pod{}
	for i := range e.leftAbove {
		left[e.leftAbove[i].UID] = &e.leftAbove[i]
	}
	standing := e.standing()
	for _, i := range e.instances {
		at := fmt.Sprintf("%s pod %s (%s)", i.kind, i.name, i.uid)
		if i.trouble != "" {
			lines = append(lines, at+": "+i.trouble)
		}
		pod := left[i.uid]
		switch {
		case i.deleted && pod != nil:
			lines = append(lines, at+": was deleted and is still there above")
		case !i.deleted && !i.refused && pod == nil:
			lines = append(lines, at+": nobody deleted it and it has gone above")
		case i.stays && pod != nil && (pod.Status.Phase != corev1.PodRunning || standing[i.uid] != 1):
			lines = append(lines, fmt.Sprintf("%s: is %s above and runs %d times below", at, pod.Status.Phase, standing[i.uid]))
		}
	}
	return lines
}

// standing counts the lower pods that run at the end, by the upper pod they stand for.
func (e evidence) standing() map[types.UID]int {
	counts := map[types.UID]int{}
	for i := range e.leftBelow {
		if p := &e.leftBelow[i]; p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			counts[types.UID(p.Annotations[keys.UpperUID])]++
		}
	}
	return counts
}

// doubled are upper pods that existed below more than once, and pods of either side that began to run more than once.
func (e evidence) doubled() []string {
	byUID := map[types.UID]*instance{}
	for _, i := range e.instances {
		byUID[i.uid] = i
	}
	lines := append(e.startedTwice(byUID), e.madeTwice(byUID)...)
	slices.Sort(lines)
	return lines
}

// startedTwice judges what the watches saw of pods that began to run.
func (e evidence) startedTwice(byUID map[types.UID]*instance) (lines []string) {
	for uid, l := range e.above {
		if byUID[uid] != nil && l.starts > 1 {
			lines = append(lines, fmt.Sprintf("%s: upper pod %s was reported to begin to run %d times", l.name, uid, l.starts))
		}
	}
	for uid, l := range e.below {
		if byUID[l.standsFor] != nil && (l.starts > 1 || l.restarts > 0) {
			lines = append(lines, fmt.Sprintf("%s: lower pod %s began to run %d times and restarted %d times", l.name, uid, l.starts, l.restarts))
		}
	}
	return lines
}

// madeTwice counts the lower pods that stood for each upper pod, and those that anybody saw of each name.
func (e evidence) madeTwice(byUID map[types.UID]*instance) (lines []string) {
	asked := map[string]int{} // instances by name
	for _, i := range e.instances {
		if !i.refused {
			asked[i.name]++
		}
	}
	times := map[types.UID]int{}
	names := map[string]map[types.UID]bool{}
	note := func(name string, uid types.UID) {
		if names[name] == nil {
			names[name] = map[types.UID]bool{}
		}
		names[name][uid] = true
	}
	for uid, l := range e.below {
		if byUID[l.standsFor] != nil {
			times[l.standsFor]++
			note(l.name, uid)
		}
	}
	for uid, name := range e.bound {
		if asked[name] > 0 {
			note(name, uid)
		}
	}
	for uid, n := range times {
		if n > 1 {
			lines = append(lines, fmt.Sprintf("%s: upper pod %s existed %d times below", byUID[uid].name, uid, n))
		}
	}
	for name, uids := range names {
		if len(uids) > asked[name] {
			lines = append(lines, fmt.Sprintf("%s: %d lower pods for %d upper ones", name, len(uids), asked[name]))
		}
	}
	return lines
}

// orphaned are lower pods of an upper pod that does not exist, and objects that no pod needs.
func (e evidence) orphaned() (lines []string) {
	for _, object := range e.brought {
		lines = append(lines, object+": is below and no pod needs it")
	}
	exists := map[types.UID]bool{}
	for i := range e.leftAbove {
		exists[e.leftAbove[i].UID] = true
	}
	ours := map[types.UID]bool{}
	for _, i := range e.instances {
		ours[i.uid] = true
	}
	for i := range e.leftBelow {
		p := &e.leftBelow[i]
		if uid := types.UID(p.Annotations[keys.UpperUID]); ours[uid] && !exists[uid] {
			lines = append(lines, fmt.Sprintf("%s/%s: is below (%s, deleted %v) and upper pod %s is no more",
				p.Namespace, p.Name, p.Status.Phase, p.DeletionTimestamp != nil, uid))
		}
	}
	return lines
}

// changed are objects of others that are not as they were.
func (e evidence) changed() (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(e.planted)) {
		if before, now := e.planted[name], e.found[name]; before != now {
			lines = append(lines, fmt.Sprintf("%s: was %s, is %q", name, before, now))
		}
	}
	return lines
}
