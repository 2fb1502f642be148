package snapshot

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

// The 10,000,000 pairs of CONTRIBUTING.md: go test ./internal/snapshot -run TestOracleAgrees -v -args -pairs 10000000
var (
	pairs      = flag.Int("pairs", 100_000, "pods and nodes that TestOracleAgrees compares at least")
	oracleSeed = flag.Uint64("oracle-seed", 1, "what TestOracleAgrees begins with")
)

// TestOracleAgrees plays as FuzzPool does, on clusters of up to some hundred nodes of many kinds: every answer is the oracle's.
func TestOracleAgrees(t *testing.T) {
	compared := 0
	for seed := *oracleSeed; compared < *pairs; seed++ {
		random := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 6000)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		wide := 1 << (2 + seed%8)
		p := newPlay(t, data, wide)
		for _, cluster := range []string{"a", "b"} {
			for range wide {
				p.changeNode()
			}
			p.do("publish " + cluster)
		}
		for step := 0; !p.tape.over(); step++ {
			p.step()
			for range 20 {
				p.do(fmt.Sprintf("judge q%d %s", p.tape.choice(4), p.requests()))
				for _, name := range p.pool.Clusters() {
					compared += len(p.pool.cells[name].rows)
				}
			}
			p.script = p.script[max(0, len(p.script)-3000):]
			if step%100 == 0 {
				if fault := p.fault(); fault != "" {
					t.Fatalf("seed %d: %s\n\nafter\n%s", seed, fault, fmt.Sprint(p.script))
				}
			}
		}
	}
	t.Logf("%d pairs of a pod and a node", compared)
}
