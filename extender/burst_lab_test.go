package extender_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// The burst: 75 pods each of 1, 2, 4 and 8 CPUs on 3 clusters of 100 nodes whose holes fit exactly these.
const (
	burstPods     = 300
	burstClusters = 3
	burstSeed     = 11
)

var burstSizes = []int64{1, 2, 4, 8}

// TestBurst creates all pods at once. With the hint every pod runs and the lower schedulers never lack room; what
// happens without the hint is printed beside it.
func TestBurst(t *testing.T) {
	t.Run("hint nominated", func(t *testing.T) {
		failed := burst(t, "nominated", true)
		if failed != 0 {
			t.Errorf("the lower schedulers lacked room %d times", failed)
		}
	})
	t.Run("hint off", func(t *testing.T) {
		burst(t, "off", false)
	})
}

// burst runs the burst and returns how many pods the lower schedulers emitted FailedScheduling for.
func burst(t *testing.T, hint string, all bool) int {
	sizes := func(salt uint64) []int64 {
		list := make([]int64, burstPods)
		for i := range list {
			list[i] = burstSizes[i%len(burstSizes)]
		}
		rand.New(rand.NewPCG(burstSeed, salt)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	}
	holes := sizes(1)
	l := startLab(t, lab.Options{
		Lower: burstClusters, Nodes: burstPods / burstClusters, Parts: path, Seed: burstSeed,
		Holes: func(cluster, node int) (corev1.ResourceList, bool) {
			cpus := holes[(cluster-1)*burstPods/burstClusters+node-1]
			return corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(cpus, resource.DecimalSI)}, true
		},
		Config: map[string]map[string]any{lab.PartVirtualNode: {"hint": hint}},
	})
	upper := client(t, l.Upper())
	newNamespace(t, upper, "burst", true)
	started := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(20)
	for i, cpus := range sizes(2) {
		group.Go(func() error { return create(ctx, upper, "burst", fmt.Sprintf("p%03d", i), cpus) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	running := 0
	settle := func() error {
		var err error
		running, err = countRunning(t.Context(), upper)
		if err == nil && running < burstPods {
			err = fmt.Errorf("%d of %d pods run", running, burstPods)
		}
		return err
	}
	if all {
		lab.Eventually(t, time.Minute, settle)
	} else {
		waitStill(t, &running, settle)
	}
	failed := 0
	for k := range burstClusters {
		failed += failedScheduling(t, client(t, l.Lower(k+1)))
	}
	t.Logf("hint %s: %d of %d pods run after %.1f s; pods with FailedScheduling below: %d",
		hint, running, burstPods, time.Since(started).Seconds(), failed)
	return failed
}

// waitStill waits until a number has not changed for 5 s.
func waitStill(t *testing.T, number *int, update func() error) {
	t.Helper()
	last, since := -1, time.Now()
	lab.Eventually(t, 2*time.Minute, func() error {
		if err := update(); err == nil {
			return nil
		}
		if *number != last {
			last, since = *number, time.Now()
		}
		if time.Since(since) > 5*time.Second {
			return nil
		}
		return fmt.Errorf("%d, still moving", *number)
	})
}

func countRunning(ctx context.Context, c kubernetes.Interface) (int, error) {
	pods, err := c.CoreV1().Pods("burst").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return 0, err
	}
	running := 0
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	return running, nil
}

// failedScheduling counts the pods that the scheduler of a cluster lacked room for, by its own events.
func failedScheduling(t *testing.T, c kubernetes.Interface) int {
	t.Helper()
	events, err := c.EventsV1().Events("burst").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=FailedScheduling"})
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]bool{}
	for _, event := range events.Items {
		if strings.Contains(event.Note, "Insufficient") {
			pods[event.Regarding.Name] = true
		}
	}
	return len(pods)
}
