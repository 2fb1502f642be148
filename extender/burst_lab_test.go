package extender_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load"
)

// TestBurst creates 300 pods at once, in `make chaos` 1,000, for which 3 clusters have exactly the holes. However late the
// mirror is, and however often the extender dies in between, every pod runs, no lower scheduler ever lacks room for one, and no
// hold is left. What happens without the hint: go run ./bench load. The two hardest rounds run always, all of them in `make chaos`.
func TestBurst(t *testing.T) {
	burst := load.Burst{Clusters: 3, Pods: 300, Seed: 11}
	if lab.Chaos() {
		burst.Pods = 1000
	}
	l := startLab(t, burst.Lab())
	random := rand.New(rand.NewPCG(burst.Seed, 3))
	for i, c := range []struct {
		name  string
		long  bool
		round load.Round
	}{
		{"mirror-at-once", true, load.Round{}},
		{"mirror-1s-late", true, load.Round{Standstill: time.Second}},
		{"mirror-10s-late", false, load.Round{Standstill: 10 * time.Second}},
		{"extender-killed", false, load.Round{Disturb: killAt(l.Process(lab.PartExtender), random, 4, burst.Pods)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && !lab.Chaos() {
				t.Skip("one of the easier rounds; run: make chaos")
			}
			c.round.Namespace, c.round.Order, c.round.Patience = c.name, uint64(i), 20*time.Second
			outcome, err := burst.Run(t.Context(), l, c.round)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", outcome)
			if outcome.Running != burst.Pods || outcome.OverPromised != 0 || outcome.Holds != 0 {
				t.Errorf("%d of %d pods run, the lower schedulers lacked room for %d, %d holds are left",
					outcome.Running, outcome.Pods, outcome.OverPromised, outcome.Holds)
			}
		})
	}
}

// killAt kills the process and starts it again as soon as so many pods are bound, at random moments of the burst.
func killAt(process *lab.Process, random *rand.Rand, times, pods int) func(context.Context, func() int) error {
	var moments []int
	for range times {
		moments = append(moments, random.IntN(pods*9/10))
	}
	slices.Sort(moments)
	return func(ctx context.Context, bound func() int) error {
		for _, moment := range moments {
			for bound() < moment {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(200 * time.Millisecond):
				}
			}
			process.Kill()
			if err := process.Restart(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
