package extender

import (
	"fmt"
	"slices"
	"testing"
	"time"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// BenchmarkFilterAcross asks about pods that are judged over all clusters, as a burst of up to 1,000 whose room is held. p99 is that of
// single questions, in milliseconds.
func BenchmarkFilterAcross(b *testing.B) {
	e, names := benchWorld(b, 100, 1_000)
	for _, c := range []struct {
		name    string
		demands seal.Constraints
	}{
		{"nothing", seal.Constraints{}},
		{"spread", spreadOver(keys.Cluster)},
		{"spread-selector", seal.Constraints{NodeSelector: map[string]string{"zone": "1"}, Spread: spreadOver(keys.Cluster).Spread}},
		{"near", nearOver(keys.Cluster)},
		{"apart", apartOver("example.com/none")},
	} {
		b.Run(fmt.Sprintf("clusters=100/nodes=1000/%s", c.name), func(b *testing.B) {
			var took []time.Duration
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				pod := testPod(fmt.Sprint(c.name, i%1000), "100m")
				pod.Labels = map[string]string{"app": "web"}
				sealed, err := c.demands.Seal(pod, keys.PolicyOnly)
				if err != nil {
					b.Fatal(err)
				}
				started := time.Now()
				e.filter(&extenderv1.ExtenderArgs{Pod: sealed, NodeNames: &names})
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			for _, hold := range e.pool.Holds() {
				e.pool.Release(hold.UID)
			}
		})
	}
}
