package extender

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestFragmentation(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t) // a has nodes of 2 and 4 free CPUs, b one of 8.
	alive := []*corev1.Pod{testPod("p", "6"), testPod("q", "6"), on(testPod("r", "2"), "a"), testPod("s", "6")}
	over := testPod("t", "1")
	over.Status.Phase = corev1.PodSucceeded
	ordinary := testPod("u", "1")
	ordinary.Spec.Containers[0].Resources.Requests = nil
	for _, pod := range append(alive, over, ordinary) {
		if err := e.upper.pods.GetStore().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	six, two := map[string]string{"cpu": "6", "pods": "1"}, map[string]string{"cpu": "2", "pods": "1"}
	hole := func(cpu string) map[string]string {
		return map[string]string{"cpu": cpu, "memory": "64Gi", "pods": "110"}
	}
	want := map[string]fragmentationJSON{
		"total": {StrandedRatio: 0.429, GapPods: 1, LargestHole: hole("8"), Classes: []classJSON{{six, 3, 0.571, 1}, {two, 1, 0, 0}}},
		"a":     {StrandedRatio: 0.75, GapPods: 1, LargestHole: hole("4"), Classes: []classJSON{{six, 3, 1, 1}, {two, 1, 0, 0}}},
		"b":     {StrandedRatio: 0.188, GapPods: 0, LargestHole: hole("8"), Classes: []classJSON{{six, 3, 0.25, 0}, {two, 1, 0, 0}}},
	}
	if diff := cmp.Diff(want, e.fragmentation(t)); diff != "" {
		t.Error(diff)
	}
	e.filterNames(t, testPod("s", "6"), "b") // What is held is not free.
	if got := e.fragmentation(t)["b"].LargestHole["cpu"]; got != "2" {
		t.Errorf("largest hole of b beside a hold of 6: %s", got)
	}
}

func TestFragmentationWithoutPods(t *testing.T) {
	t.Parallel()
	for name, f := range newTestExtender(t).fragmentation(t) {
		if f.StrandedRatio != 0 || f.GapPods != 0 || f.Classes == nil || len(f.Classes) != 0 || f.LargestHole["cpu"] == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestFragmentationHasTheMostFrequentShapes(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	for shape := range mostClasses + 5 {
		for i := range shape%3 + 1 {
			pod := testPod(fmt.Sprintf("p-%d-%d", shape, i), fmt.Sprint(shape+1))
			if err := e.upper.pods.GetStore().Add(pod); err != nil {
				t.Fatal(err)
			}
		}
	}
	classes := e.fragmentation(t)["total"].Classes
	if len(classes) != mostClasses || classes[0].Count != 3 || classes[mostClasses-1].Count != 1 {
		t.Errorf("%d classes: %+v", len(classes), classes)
	}
}

// fragmentation returns what the endpoint says, by cluster and "total".
func (e *testExtender) fragmentation(t *testing.T) map[string]fragmentationJSON {
	t.Helper()
	var answer struct {
		Total    fragmentationJSON
		Clusters []clusterFragmentationJSON
	}
	if status := e.call(t, http.MethodGet, "/debug/fragmentation", "", &answer); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	found := map[string]fragmentationJSON{"total": answer.Total}
	for _, c := range answer.Clusters {
		found[c.Name] = c.fragmentationJSON
	}
	return found
}
