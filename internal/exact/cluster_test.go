package exact_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/exact"
)

func TestPodsComeAndGo(t *testing.T) {
	t.Parallel()
	ended := pod("ended", on("a"), requests("cpu", "4"))
	ended.Status.Phase = corev1.PodSucceeded
	unbound := pod("unbound", requests("cpu", "4"))
	astray := pod("astray", on("gone"), requests("cpu", "4"))
	cluster, err := exact.NewCluster(exact.Objects{Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{ended, unbound, astray}})
	if err != nil {
		t.Fatal(err)
	}
	big := pod("big", requests("cpu", "3"))
	expect := func(when string, want ...string) {
		t.Helper()
		fits, refused, err := cluster.Filter(t.Context(), big)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, fits); diff != "" {
			t.Errorf("%s: fits differ (-want +got):\n%s", when, diff)
		}
		if got := len(refused) + len(fits); got != 2 {
			t.Errorf("%s: %d verdicts, want one for each of 2 nodes", when, got)
		}
	}
	expect("pods that ended, wait, or are on a node that has gone", "a", "b")
	running := pod("running", on("a"), requests("cpu", "2"))
	if err := cluster.AddPod(running); err != nil {
		t.Fatal(err)
	}
	expect("after a pod of 2 came to a", "b")
	if err := cluster.RemovePod(running); err != nil {
		t.Fatal(err)
	}
	expect("after it went", "a", "b")
}

func TestAPodWithoutUIDIsAnError(t *testing.T) {
	t.Parallel()
	nameless := pod("p", on("a"))
	nameless.UID = ""
	if _, err := exact.NewCluster(exact.Objects{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{nameless}}); err == nil {
		t.Error("no error for a bound pod without UID")
	}
}

// Clusters are built and dropped by the thousand in a long life, and nothing of one may stay. Other tests build clusters
// at the same moment: their goroutines of an instant pass, too.
func TestADroppedClusterLeavesNoGoroutine(t *testing.T) {
	t.Parallel()
	cluster, err := exact.NewCluster(exact.Objects{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("r", on("a"), apart)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cluster.Filter(t.Context(), pod("p", apart)); err != nil {
		t.Fatal(err)
	}
	stacks := func() string {
		buffer := make([]byte, 4<<20)
		return string(buffer[:runtime.Stack(buffer, true)])
	}
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		now := stacks()
		if !strings.Contains(now, "created by k8s.io/kubernetes/pkg/scheduler") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines of the scheduler are still there:\n%s", now)
		}
	}
}

// manyPods is a cluster of 1,000 nodes with 10 pods each, one of them with an anti-affinity term.
func manyPods() exact.Objects {
	var objects exact.Objects
	for i := range 1000 {
		n := node(fmt.Sprintf("node-%04d", i), zone(fmt.Sprint(i%3)))
		n.Status.Allocatable = resources("cpu", "16", "memory", "64Gi", "pods", "110")
		objects.Nodes = append(objects.Nodes, n)
		for j := range 10 {
			p := pod(fmt.Sprintf("%s-%d", n.Name, j), on(n.Name))
			if j == 0 {
				apart(p)
				p.Labels["app"] = "b"
			}
			objects.Pods = append(objects.Pods, p)
		}
	}
	return objects
}

func BenchmarkBuildAndAskOnce(b *testing.B) {
	objects := manyPods()
	for b.Loop() {
		cluster, err := exact.NewCluster(objects)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := cluster.Filter(b.Context(), pod("p"), "node-0500"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAskAboutEightNodes(b *testing.B) {
	objects := manyPods()
	objects.Claims = append(objects.Claims, claim("data"))
	objects.StorageClasses = classes()
	cluster, err := exact.NewCluster(objects)
	if err != nil {
		b.Fatal(err)
	}
	var candidates []string
	for _, n := range objects.Nodes[:8] {
		candidates = append(candidates, n.Name)
	}
	for _, asked := range []*corev1.Pod{pod("plain"), pod("with-claim", usesClaims("data")), pod("spread", spread), pod("apart", apart)} {
		b.Run(asked.Name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := cluster.Filter(b.Context(), asked, candidates...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
