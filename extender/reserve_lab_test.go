package extender_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// reserve: of the 48 CPUs of lower-2 half are left to its own growth, so that 6 of 8 pods of 4 CPUs run there and not one
// more, although 6 CPUs would stay free on each node. Once nothing is reserved, the waiting ones run without being touched.
func (r *rules) reserve(t *testing.T) {
	newNamespace(t, r.upper, "reserve", true)
	defer r.empty(t, "reserve")
	set := func(share string) {
		t.Helper()
		if err := r.lab.Reconfigure(t.Context(), lab.PartVirtualNode, map[string]any{
			"perCluster": map[string]any{"lower-2": map[string]any{"reserve": map[string]any{"cpu": share}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	set("50%")
	r.offers(t, "lower-2", 24+16) // Free without the reserve, and the largest node.
	for i := range 8 {
		pod := pinned(newPod(fmt.Sprintf("p-%d", i), cpus(4)), "lower-2")
		r.create(t, "reserve", pod)
		if i < 6 {
			r.boundTo(t, "reserve", pod.Name, "lower-2")
		}
	}
	for _, name := range []string{"p-6", "p-7"} {
		r.refusedWith(t, "reserve", name, string(keys.InsufficientCPU))
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, "reserve", 6) })
	r.offers(t, "lower-2", 6*4+16) // What our pods have, and the largest node: the filter of the scheduler itself lets all in.
	set("0%")
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, "reserve", 8) })
}

// offers waits until a virtual node shows so many CPUs as allocatable.
func (r *rules) offers(t *testing.T, name string, want int64) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		node, err := r.upper.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := node.Status.Allocatable[corev1.ResourceCPU]; got.Value() != want {
			return fmt.Errorf("node %s shows %s CPUs as allocatable, want %d", name, &got, want)
		}
		return nil
	})
}
