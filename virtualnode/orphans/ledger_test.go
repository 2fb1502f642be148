package orphans

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

var start = time.Unix(1_000_000, 0)

const grace = 15 * time.Minute

// desk is a ledger with a clock and a picture that a test changes.
type desk struct {
	*Ledger
	now, broken time.Time
	found       []Orphan
	unfinished  int
}

func newDesk(orphans, unfinished int) *desk {
	d := &desk{now: start, unfinished: unfinished}
	d.Ledger = New(grace, func() time.Time { return d.broken })
	for i := range orphans {
		d.found = append(d.found, Orphan{Namespace: "ns", Name: fmt.Sprintf("p-%03d", i), UID: types.UID(fmt.Sprint("l", i)), UpperUID: types.UID(fmt.Sprint("u", i))})
	}
	return d
}

// after lets time pass, surveys, confirms what it is asked to look at and returns the names of that.
func (d *desk) after(pass time.Duration) []string {
	d.now = d.now.Add(pass)
	names := []string{}
	for _, o := range d.Survey(d.found, d.unfinished, d.now) {
		names = append(names, o.Name)
		d.Confirm(o.UID)
	}
	slices.Sort(names)
	return names
}

func (d *desk) due() int {
	count := 0
	for _, o := range d.found {
		if d.Due(o.UID, d.now) {
			count++
		}
	}
	return count
}

func TestGrace(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 100)
	if got := d.after(0); !slices.Equal(got, []string{"p-000"}) {
		t.Errorf("a new orphan is looked at, to be confirmed: %v", got)
	}
	if got := d.after(grace - time.Second); len(got) > 0 || d.due() != 0 {
		t.Errorf("within the grace: looked at %v, %d due", got, d.due())
	}
	if got := d.after(time.Second); !slices.Equal(got, []string{"p-000"}) || d.due() != 1 {
		t.Errorf("after the grace: looked at %v, %d due", got, d.due())
	}
	if got := d.after(time.Second); len(got) > 0 {
		t.Errorf("it is looked at once, the queue tries again by itself: %v", got)
	}
	d.broken = d.now
	if got := d.after(grace - time.Second); len(got) > 0 || d.due() != 0 {
		t.Errorf("the grace counts from when the upper cluster was whole: %d due", d.due())
	}
	if d.after(time.Second); d.due() != 1 {
		t.Error("it is whole for as long as the grace, and yet nothing is due")
	}
}

func TestUnconfirmedIsNeverDue(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 100)
	d.Confirm("l0") // not known yet
	d.Survey(d.found, d.unfinished, d.now)
	d.now = d.now.Add(2 * grace)
	d.Survey(d.found, d.unfinished, d.now)
	if d.due() != 0 || len(d.Release()) != 0 || d.due() != 0 {
		t.Error("what the API server has not confirmed may be collected")
	}
}

func TestNotForgottenEarly(t *testing.T) {
	t.Parallel()
	d := newDesk(1, 100)
	d.Saw("u0", start)
	for range 20 { // It is collected at every attempt that is possible, for hours if need be.
		if got := d.after(remember - time.Second); len(got) > 0 || !d.HasSeen("u0") || d.due() != 0 {
			t.Fatalf("looked at %v, seen %t, %d due", got, d.HasSeen("u0"), d.due())
		}
	}
	d.found = nil
	if d.after(remember - time.Second); !d.HasSeen("u0") {
		t.Error("a creation may be under way, and the deletion is forgotten")
	}
	if d.after(2 * time.Second); d.HasSeen("u0") {
		t.Error("a deletion is remembered for ever")
	}
}

func TestBrake(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		orphans, finished, unfinished int
		brake                         bool
	}{
		"none":                           {0, 0, 100, false},
		"five of few":                    {5, 0, 5, false},
		"six of few":                     {6, 0, 6, true},
		"a tenth of many":                {20, 0, 200, false},
		"a tenth of many and one":        {21, 0, 200, true},
		"a tenth is rounded down":        {20, 0, 199, true},
		"finished ones are no loss":      {50, 50, 10, false},
		"finished ones beside a crowd":   {50, 40, 20, true},
		"nothing but orphans, and a lot": {1000, 0, 1000, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(c.orphans, c.unfinished)
			for i := range c.finished {
				d.found[i].Finished = true
			}
			d.after(0)
			d.after(grace)
			want := c.orphans
			if c.brake {
				want = 0
			}
			if got := d.Brake() != ""; got != c.brake || d.due() != want {
				t.Errorf("brake %t, %d due; want %t, %d", got, d.due(), c.brake, want)
			}
		})
	}
}

// A crowd that does not come all at once: none goes before all have been seen, and nothing is shown for a moment's lag.
func TestBrakeOfAGrowingCrowd(t *testing.T) {
	t.Parallel()
	d := newDesk(50, 50)
	all := d.found
	d.found = all[:5]
	d.after(0)
	d.after(grace - time.Second)
	d.found = all
	d.after(time.Second)
	if d.due() != 0 {
		t.Errorf("%d are collected although a crowd has come", d.due())
	}
	if d.Brake() != "" {
		t.Error("shown at once: a cache that lags would make the condition flap")
	}
	d.after(settle)
	if text := d.Brake(); !strings.HasPrefix(text, "50 of 50 pods") {
		t.Errorf("brake %q", text)
	}
	d.found = all[:5] // Their owners are back.
	if d.after(time.Second); d.Brake() != "" || d.due() != 5 {
		t.Errorf("the crowd is gone, and yet: %q, %d due", d.Brake(), d.due())
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	d := newDesk(50, 50)
	all := d.found
	d.found = all[:40]
	d.after(0)
	d.after(settle)
	if got := d.Orphans(); len(got) != 40 || got[0].Name != "p-000" || !got[0].Since.Equal(start) {
		t.Fatalf("%d are listed, the first is %+v", len(got), got[0])
	}
	if got := d.Release(); len(got) != 40 || d.due() != 40 {
		t.Errorf("%d released, %d due, want 40", len(got), d.due())
	}
	d.found = all
	d.after(time.Second)
	d.after(settle)
	if d.due() != 40 {
		t.Errorf("%d due: those that came later were not released", d.due())
	}
	if d.Brake() == "" {
		t.Error("ten that came later are a crowd of their own")
	}
}
