package pods

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Pods that vanish without a trace are believed to have gone a moment later if they are few, and many only once somebody says so.
// What was seen to go, or has a reason, is replaced at once, whatever the number: a drain of half the nodes.
func TestAbsences(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		missing, of    int
		evidence, seen bool
		atOnce, later  bool // replaced
	}{
		"one":                            {1, 100, false, false, false, true},
		"a tenth":                        {10, 100, false, false, false, true},
		"more than a tenth":              {11, 100, false, false, false, false},
		"five of few":                    {5, 6, false, false, false, true},
		"all":                            {100, 100, false, false, false, false},
		"all, deletions were seen":       {100, 100, false, true, true, true},
		"all, their nodes are not there": {100, 100, true, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAbsences()
			uid := func(i int) types.UID { return types.UID(fmt.Sprint(i)) }
			take := func(at time.Time) (replaced int) {
				for i := range c.missing {
					if a.take(uid(i), c.evidence, c.of, at) == 0 {
						replaced++
					}
				}
				return replaced
			}
			all := func(yes bool) int {
				if yes {
					return c.missing
				}
				return 0
			}
			for i := range c.missing {
				if c.seen {
					a.saw(uid(i), now)
				}
			}
			if got := take(now); got != all(c.atOnce) {
				t.Errorf("%d are replaced at once", got)
			}
			if got := take(now.Add(absenceSettles)); got != all(c.later) {
				t.Errorf("%d are replaced a moment later", got)
			}
			if braked := a.brake(func() int { return c.of }, "v") != ""; braked == c.later {
				t.Errorf("the brake says %q", a.brake(func() int { return c.of }, "v"))
			}
			a.believe(now.Add(absenceSettles))
			if got := take(now.Add(absenceSettles + time.Second)); got != c.missing || a.brake(func() int { return c.of }, "v") != "" {
				t.Errorf("%d are replaced once somebody says so; the brake says %q", got, a.brake(func() int { return c.of }, "v"))
			}
		})
	}
}

// What is missing at once is counted together. What has gone above counts no more, and a batch that is held back holds back no other.
func TestAbsencesAtOnce(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	const of = 20 // 5 are few
	type event struct {
		after time.Duration
		lost  string // a letter each: takes that look at pods that are missing
		over  string // pods that have gone above, or come back
		want  string // the pods of lost that are replaced
	}
	for name, events := range map[string][]event{
		"six at once wait": {{0, "abcdef", "", ""}, {10 * time.Second, "abcdef", "", ""}, {time.Hour, "abcdef", "", ""}},
		"six one by one do not": {
			{0, "ab", "", ""}, {6 * time.Second, "abcd", "", "ab"}, {12 * time.Second, "cdef", "", "cd"}, {18 * time.Second, "ef", "", "ef"},
		},
		"six in a row that does not pause wait": {
			{0, "ab", "", ""}, {3 * time.Second, "abcd", "", ""}, {6 * time.Second, "abcdef", "", ""}, {12 * time.Second, "abcdef", "", ""},
		},
		"one of six that has gone above counts no more": {{0, "abcdef", "", ""}, {10 * time.Second, "bcdef", "a", "bcdef"}},
		"another day's are on their own": {
			{0, "abcdef", "", ""}, {time.Hour, "gabcdef", "", ""}, {time.Hour + 6*time.Second, "gabcdef", "", "g"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAbsences()
			for i, e := range events {
				for _, pod := range e.over {
					a.done(types.UID(pod))
				}
				replaced := ""
				for _, pod := range e.lost {
					if a.take(types.UID(pod), false, of, start.Add(e.after)) == 0 {
						replaced += string(pod)
					}
				}
				if replaced != e.want {
					t.Errorf("look %d: %q are replaced, want %q", i, replaced, e.want)
				}
				for _, pod := range replaced {
					a.done(types.UID(pod))
				}
			}
		})
	}
}

// One that is braked is not looked at all the time; its return, its deletion having been seen, and somebody's word end that.
func TestBraked(t *testing.T) {
	t.Parallel()
	now, of := time.Unix(1000, 0), 20
	for name, change := range map[string]func(*absences){
		"nothing happens":        func(*absences) {},
		"it is back":             func(a *absences) { a.back("a") },
		"its deletion was seen":  func(a *absences) { a.saw("a", now) },
		"somebody says so":       func(a *absences) { a.believe(now.Add(time.Minute)) },
		"somebody says so ahead": func(a *absences) { a.believe(now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAbsences()
			for _, pod := range "abcdef" {
				a.take(types.UID(pod), false, of, now)
			}
			if got := a.braked("unknown", of); got != 0 {
				t.Errorf("one that is not missing waits %s", got)
			}
			change(&a)
			if got := a.braked("a", of); (got > 0) != (name == "nothing happens") {
				t.Errorf("it waits %s", got)
			}
		})
	}
}
