package hints

import (
	"cmp"
	"testing"
	"time"
)

func TestModeOfAClusterThatRefusesStatuses(t *testing.T) {
	t.Parallel()
	configured := map[string]Mode{"strict": Required, "quiet": Off}
	m := modes{
		configured: func(cluster string) Mode { return cmp.Or(configured[cluster], Nominated) },
		retry:      map[string]time.Time{},
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	expect := func(when string, now time.Time, want map[string]Mode) {
		t.Helper()
		for cluster, mode := range want {
			if got := m.of(cluster, now); got != mode {
				t.Errorf("%s: %s has the mode %s, want %s", when, cluster, got, mode)
			}
		}
	}
	expect("as configured", start, map[string]Mode{
		"any": Nominated, "same": Nominated, "strict": Required, "quiet": Off,
	})
	if m.statusTaken("any") {
		t.Error("a status that was taken as ever is news")
	}
	if !m.statusRefused("any", start) || m.statusRefused("any", start.Add(time.Second)) {
		t.Error("the first refusal is news, and no other")
	}
	expect("after the refusal", start.Add(5*time.Minute), map[string]Mode{"any": Preferred, "same": Nominated})
	later := start.Add(nominateAgain + time.Second)
	expect("another attempt", later, map[string]Mode{"any": Nominated})
	if m.statusRefused("any", later) {
		t.Error("that it still refuses is news")
	}
	expect("refused again", later.Add(time.Second), map[string]Mode{"any": Preferred})
	if !m.statusTaken("any") || m.statusTaken("any") {
		t.Error("the first status that is taken is news, and no other")
	}
	expect("mended", later.Add(time.Second), map[string]Mode{"any": Nominated})
}
