package budgets

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestTurn(t *testing.T) {
	t.Parallel()
	epoch := time.Unix(0, 0)
	// winners of the slots from the epoch on, of a, b and c
	const budget = types.UID("budget")
	winnerAt := func(slots int64) string { return winner(budget, slots, []string{"a", "b", "c"}) }
	same, other := int64(-1), int64(-1) // a slot whose winner also has the next one, and one where it goes to another
	for n := int64(1); same < 0 || other < 0; n++ {
		if winnerAt(n) == winnerAt(n+1) {
			same = n
		} else {
			other = n
		}
	}
	at := func(slots int64, offset time.Duration) time.Time {
		return epoch.Add(time.Duration(slots)*slot + offset)
	}
	all := []string{"a", "b", "c"}
	for name, c := range map[string]struct {
		of         []string
		self       string
		since, now time.Time
		mine       bool
		next       time.Time
	}{
		"no pods":               {of: []string{"b"}, self: "a", now: at(9, 0)},
		"alone":                 {of: []string{"a"}, self: "a", since: epoch, now: at(9, 0), mine: true},
		"alone since just now":  {of: []string{"a"}, self: "a", since: at(9, 0), now: at(9, time.Second), next: at(9, settle)},
		"not mine":              {of: all, self: lose(winnerAt(same)), since: epoch, now: at(same, 0), next: at(same+1, 0)},
		"mine":                  {of: all, self: winnerAt(other), since: epoch, now: at(other, 0), mine: true, next: at(other+1, -guard)},
		"mine, in the guard":    {of: all, self: winnerAt(other), since: epoch, now: at(other+1, -guard), next: at(other+1, 0)},
		"mine and the next too": {of: all, self: winnerAt(same), since: epoch, now: at(same+1, -time.Second), mine: true, next: at(same+1, 0)},
		"mine, but joined now":  {of: all, self: winnerAt(same), since: at(same, 0), now: at(same, settle/2), next: at(same, settle)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine, next := turn(budget, c.of, c.self, c.since, c.now)
			if mine != c.mine || !next.Equal(c.next) {
				t.Errorf("mine %t, next %s; want %t, %s", mine, next, c.mine, c.next)
			}
		})
	}
}

func lose(name string) string {
	if name == "a" {
		return "b"
	}
	return "a"
}

// Every virtual node has its turn about as often as the others, and one that joins or leaves changes nobody else's.
func TestWinner(t *testing.T) {
	t.Parallel()
	names := []string{"lower-1", "lower-2", "lower-3", "lower-4"}
	won := map[string]int{}
	for n := range int64(4000) {
		of := names
		first := winner("budget", n, of)
		won[first]++
		for _, gone := range names {
			var rest []string
			for _, name := range names {
				if name != gone {
					rest = append(rest, name)
				}
			}
			if now := winner("budget", n, rest); gone != first && now != first {
				t.Fatalf("slot %d goes from %s to %s because %s left", n, first, now, gone)
			}
		}
	}
	for _, name := range names {
		if won[name] < 800 || won[name] > 1200 {
			t.Errorf("%s has %d of 4000 slots", name, won[name])
		}
	}
}
