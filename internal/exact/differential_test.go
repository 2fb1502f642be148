package exact_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

var (
	fitFor  = flag.Duration("fit-for", 0, "compare the fit on random clusters for this long instead of a fixed number of pairs")
	fitSeed = flag.Uint64("fit-seed", 1, "seed of the first random cluster")
)

// differentialPairs is how many (pod, node) pairs have to be compared before the two truths count as one.
const differentialPairs = 200_000

// TestFitIsTheSchedulersFit compares internal/snapshot with the real filter plugins over random clusters, node by node,
// while pods come and go. `make fuzz` lets it go on from a seed of the moment: coverage has nothing to tell of what a seed
// makes, and instrumenting all of the scheduler takes minutes.
func TestFitIsTheSchedulersFit(t *testing.T) {
	t.Parallel()
	pairs, fitting, refusals := 0, 0, map[string]int{}
	started := time.Now()
	for seed := *fitSeed; pairs < differentialPairs || time.Since(started) < *fitFor; seed++ {
		c := newComparison(t, seed)
		c.run()
		pairs += c.pairs
		fitting += c.fitting
		for plugin, count := range c.refusals {
			refusals[plugin] += count
		}
		if t.Failed() {
			t.Fatalf("stopped at seed %d", seed)
		}
	}
	t.Logf("%d pairs of pod and node compared, %d of them fit, no disagreement; refused by plugin: %v", pairs, fitting, refusals)
	if share := float64(fitting) / float64(pairs); share < 0.05 || share > 0.95 {
		t.Errorf("%.0f%% of the pairs fit: the random cases no longer test both answers", 100*share)
	}
	for _, plugin := range []string{
		"NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity",
		"NodeDeclaredFeatures",
	} {
		if refusals[plugin] < pairs/1000 {
			t.Errorf("%s refused %d of %d pairs: the random cases no longer test it", plugin, refusals[plugin], pairs)
		}
	}
}

// comparison is one random cluster, twice.
type comparison struct {
	t              *testing.T
	random         *source
	now            scenario // what both have been told, pod by pod
	plugins        *exact.Cluster
	pool           *snapshot.Pool
	known          map[string]seen
	pairs, fitting int
	refusals       map[string]int // by plugin
}

func newComparison(t *testing.T, seed uint64) *comparison {
	t.Helper()
	c := &comparison{t: t, random: newSource(seed), pool: snapshot.NewPool(), known: map[string]seen{}, refusals: map[string]int{}}
	c.now = c.random.scenario()
	c.now.publish(c.pool, c.known)
	var err error
	if c.plugins, err = c.now.plugins(); err != nil {
		t.Fatal(err)
	}
	return c
}

// run lets pods ask. One that is taken is held where Judge wants it; now and then those on their way arrive and some
// others go, for which the next question is asked of a new snapshot.
func (c *comparison) run() {
	c.t.Helper()
	for i := range 60 {
		c.compare(c.random.pod(fmt.Sprintf("new-%d", i)))
		if c.t.Failed() {
			return
		}
		if c.random.chance(0.1) {
			c.turn()
		}
	}
}

// compare asks both truths, and lets the pod in if there is room.
func (c *comparison) compare(pod *corev1.Pod) {
	c.t.Helper()
	v, err := ask(c.t.Context(), c.pool, c.plugins, pod)
	if err != nil {
		c.t.Fatal(err)
	}
	c.pairs += len(v.ours)
	c.fitting += len(v.fits())
	for _, refusal := range v.theirs {
		c.refusals[refusal.Plugin]++
	}
	if difference := v.difference(); difference != "" {
		c.now.Pod = pod
		c.report(difference, v.fits())
		return
	}
	if v.judge.Fits {
		bound := pod.DeepCopy()
		bound.Spec.NodeName = v.judge.Node
		c.now.Held = append(c.now.Held, bound)
		hold(c.pool, bound)
		if err := c.plugins.AddPod(bound); err != nil {
			c.t.Fatal(err)
		}
	}
}

// turn publishes a new snapshot, in which the held pods have arrived and a few others are no longer there.
func (c *comparison) turn() {
	c.t.Helper()
	for _, pod := range c.now.Held {
		c.pool.Release(pod.UID)
	}
	c.now.Pods, c.now.Held = slices.Concat(c.now.Pods, c.now.Held), nil
	for range min(c.random.IntN(8), len(c.now.Pods)) {
		i := c.random.IntN(len(c.now.Pods))
		if gone := c.now.Pods[i]; !snapshot.Finished(gone) {
			if err := c.plugins.RemovePod(gone); err != nil {
				c.t.Fatal(err)
			}
		}
		c.now.Pods = slices.Delete(c.now.Pods, i, i+1)
	}
	c.now.publish(c.pool, c.known)
}

// report shrinks the case and prints it as a file for testdata.
func (c *comparison) report(difference string, fits []string) {
	c.t.Helper()
	disagrees := func(s scenario) bool { return s.disagrees(c.t.Context()) }
	if !disagrees(c.now) {
		c.t.Errorf("%s\nThis needs what happened before: asked from scratch, both agree.\n%s", difference, c.now.text(fits))
		return
	}
	small := shrink(c.now, disagrees)
	v, err := small.ask(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Errorf("%s\nThe smallest case like it, for testdata:\n%s", v.difference(), small.text(v.fits()))
}
