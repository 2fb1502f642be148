package demo

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// patience is how long a pod may be pending above while the oracle finds room for it in every sample.
const patience = time.Minute

// TestStory plays both runs. With Tessera nothing may hang where no node fits, and nothing may wait while there is
// room; without it some pods hang, so this test can fail. `make smoke` plays the same story and fails by its end; this looks at
// every sample.
func TestStory(t *testing.T) {
	lab.Need(t)
	if !lab.Chaos() {
		t.Skip("the demo is played by make smoke; sample by sample by make chaos")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	stock, wronged, err := playStock(ctx, os.Stderr, 1)
	if err != nil {
		t.Fatal(err)
	}
	if stock.StuckBelow == 0 || len(wronged) != stock.StuckBelow {
		t.Errorf("the stock scheduler left %d pods stuck (%v): the story has no problem to solve", stock.StuckBelow, wronged)
	}

	tessera, _, err := playTessera(ctx, os.Stderr, 1, wronged, watchful(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := (Report{Stock: stock, Tessera: tessera}).verdict(); err != nil {
		t.Error(err)
	}
	if tessera.Running != tessera.Asked {
		t.Errorf("%d of %d pods run, though the holes fit all of them", tessera.Running, tessera.Asked)
	}
	t.Logf("stock %+v, tessera %+v", stock, tessera)
}

// watchful fails the test at a pod that hangs below, or that waits above for longer than patience while each sample
// had room for it.
func watchful(t *testing.T) func(context.Context, *sample) error {
	since := map[string]time.Time{}
	return func(ctx context.Context, s *sample) error {
		for _, name := range s.stuck {
			t.Errorf("%s was sent to a cluster in which no node takes it", name)
		}
		waiting, err := s.withRoom(ctx)
		if err != nil {
			return err
		}
		now, still := time.Now(), map[string]time.Time{}
		for _, name := range waiting {
			still[name] = now
			if first, ok := since[name]; ok {
				still[name] = first
			}
			if now.Sub(still[name]) > patience {
				t.Errorf("%s has waited for %s though there was room in every sample", name, now.Sub(still[name]))
			}
		}
		since = still
		return nil
	}
}
