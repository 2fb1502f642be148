package lifecycles

import (
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// sound is evidence of which nothing is wrong: one pod that stays, one that was deleted, and an object of others.
func sound() evidence {
	return evidence{
		instances: []*instance{{kind: "stay", name: "a", uid: "up-a", stays: true}, {kind: "delete", name: "b", uid: "up-b", deleted: true}},
		above:     map[types.UID]life{"up-a": {name: "a", starts: 1}, "up-b": {name: "b", starts: 1, gone: true}},
		below: map[types.UID]life{
			"low-a": {name: "a", standsFor: "up-a", starts: 1}, "low-b": {name: "b", standsFor: "up-b", starts: 1, gone: true},
			"low-x": {name: "x", starts: 7, restarts: 3},
		},
		bound:     map[types.UID]string{"low-a": "a", "low-b": "b", "low-x": "x"},
		leftAbove: []corev1.Pod{left("a", "up-a", "")},
		leftBelow: []corev1.Pod{left("a", "low-a", "up-a")},
		planted:   map[string]string{"lower Pod x": "1 at 1"},
		found:     map[string]string{"lower Pod x": "1 at 1"},
	}
}

func left(name, uid, standsFor string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), Annotations: map[string]string{keys.UpperUID: standsFor}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change                           func(*evidence)
		lost, doubled, orphaned, changed int
	}{
		"nothing wrong":                    {change: func(*evidence) {}},
		"waited in vain":                   {change: func(e *evidence) { e.instances[1].trouble = "is not running" }, lost: 1},
		"a pod that stays has gone":        {change: func(e *evidence) { e.leftAbove = nil }, lost: 1, orphaned: 1},
		"a deleted pod is still there":     {change: func(e *evidence) { e.leftAbove = append(e.leftAbove, left("b", "up-b", "")) }, lost: 1},
		"nothing runs for a pod":           {change: func(e *evidence) { e.leftBelow = nil }, lost: 1},
		"a pod that stays ended above":     {change: func(e *evidence) { e.leftAbove[0].Status.Phase = corev1.PodFailed }, lost: 1},
		"made below twice":                 {change: func(e *evidence) { e.below["low-c"] = life{name: "b", standsFor: "up-b"} }, doubled: 2},
		"made again while nobody looked":   {change: func(e *evidence) { e.bound["low-c"] = "b" }, doubled: 1},
		"the same name asked for twice":    {change: again},
		"began to run twice below":         {change: func(e *evidence) { e.below["low-a"] = life{name: "a", standsFor: "up-a", starts: 2} }, doubled: 1},
		"a container was restarted":        {change: func(e *evidence) { e.below["low-a"] = life{name: "a", standsFor: "up-a", restarts: 1} }, doubled: 1},
		"reported twice":                   {change: func(e *evidence) { e.above["up-a"] = life{name: "a", starts: 2} }, doubled: 1},
		"exists although the name is used": {change: func(e *evidence) { e.instances[1].refused = true }, doubled: 1},
		"an object that nobody needs":      {change: func(e *evidence) { e.brought = []string{"Secret a/b"} }, orphaned: 1},
		"left below":                       {change: func(e *evidence) { e.leftBelow = append(e.leftBelow, left("b", "low-b", "up-b")) }, orphaned: 1},
		"others' orphans are not ours": {change: func(e *evidence) {
			e.leftBelow = append(e.leftBelow, left("z", "low-z", "another"))
		}},
		"changed": {change: func(e *evidence) { e.found["lower Pod x"] = "1 at 2" }, changed: 1},
		"deleted": {change: func(e *evidence) { e.found = nil }, changed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := sound()
			c.change(&e)
			v := check(e)
			if len(v.Lost) != c.lost || len(v.Doubled) != c.doubled || len(v.Orphaned) != c.orphaned || len(v.Changed) != c.changed {
				t.Errorf("%+v, want %d lost, %d doubled, %d orphaned, %d changed", v, c.lost, c.doubled, c.orphaned, c.changed)
			}
		})
	}
}

// again: the driver has made b a second time, and it is below a second time.
func again(e *evidence) {
	e.instances = append(e.instances, &instance{kind: "recreate", name: "b", uid: "up-b2", deleted: true})
	e.below["low-b2"] = life{name: "b", standsFor: "up-b2", starts: 1, gone: true}
	e.bound["low-b2"] = "b"
}

// The same seed kills the same processes at the same moments, and all three sorts of them.
func TestKillsFor(t *testing.T) {
	t.Parallel()
	first, second := killsFor(500, "lower-1", seeded(7)), killsFor(500, "lower-1", seeded(7))
	times := map[string]int{}
	for i := range first {
		if first[i] != second[i] {
			t.Errorf("kill %d is %+v and %+v", i, first[i], second[i])
		}
		if i > 0 && first[i].at < first[i-1].at {
			t.Errorf("kill %d comes before the one before it", i)
		}
		times[first[i].process]++
	}
	if times["virtualnode"] < 5 || times["lower-1/apiserver"] < 2 || times["upper/apiserver"] < 1 {
		t.Errorf("kills %v", times)
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
