package virtualnode_test

import (
	"os"
	"testing"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/lifecycles"
)

// 150 pods (make chaos: 500, as bench load --only lifecycles) live in all sorts of ways while virtualnode and the API servers of both sides are killed at seeded moments. None is
// lost, doubled or orphaned, and nothing of others is changed; package lifecycles judges that without code of the product.
func TestLifecyclesUnderKills(t *testing.T) {
	t.Parallel()
	l := own(t, lifecycles.Lab(os.Stderr))
	count := 150
	if lab.Chaos() {
		count = 500
	}
	report, err := lifecycles.Play(t.Context(), l, lifecycles.Options{Lifecycles: count, Rate: 10, Seed: 12}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Print(t.Output()); err != nil {
		t.Error(err)
	}
	if err := report.Check(); err != nil {
		t.Error(err)
	}
}
