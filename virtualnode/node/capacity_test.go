package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// What is bound and finished changes nothing: what is charged rises by what is free below falls.
func TestOwnChurnChangesNothing(t *testing.T) {
	t.Parallel()
	request := snapshot.Resources{MilliCPU: 2000, Memory: 1 << 30, Pods: 1, Scalars: map[corev1.ResourceName]int64{"example.com/gpu": 1}}
	gpu := func(node *corev1.Node) {
		node.Status.Allocatable = snapshot.Resources{
			MilliCPU: 16000, Memory: 64 << 30, Pods: 110, Scalars: map[corev1.ResourceName]int64{"example.com/gpu": 4, "hugepages-2Mi": 1 << 30},
		}.List()
	}
	part := snapshot.Part{Reserve: snapshot.Reserve{Share: map[corev1.ResourceName]float64{"cpu": 0.1}}}
	with := func(pods int) Facts {
		var below []*snapshot.LowerPod
		own := snapshot.Resources{}
		for range pods {
			below = append(below, &snapshot.LowerPod{Requests: request})
			own = own.Plus(request)
		}
		return Facts{
			Name: "v", Health: healthy(), Own: own,
			Snapshot: picture(snapshot.NewNode(lowerNode("a", gpu), below), snapshot.NewNode(lowerNode("b", gpu), nil)).Select(part),
		}
	}
	empty := with(0)
	want := empty.node(now)
	if _, ok := want.Status.Allocatable["hugepages-2Mi"]; !ok {
		t.Error("hugepages are missing")
	}
	for pods := range 4 {
		f := with(pods)
		f.before = want
		if diff := cmp.Diff(want, f.node(now)); diff != "" {
			t.Errorf("%d pods: %s", pods, diff)
		}
	}
}

// What only device classes give is listed, or the upper scheduler's own filter would refuse it.
func TestDevicesAreAdvertised(t *testing.T) {
	t.Parallel()
	const gpu = corev1.ResourceName("example.com/gpu")
	f := Facts{
		Name: "v", Snapshot: nodes(lowerNode("a")), Devices: map[corev1.ResourceName]int64{gpu: 4},
		Own: snapshot.Resources{Scalars: map[corev1.ResourceName]int64{gpu: 3}},
	}
	status := f.node(now).Status
	allocatable, capacity := status.Allocatable[gpu], status.Capacity[gpu]
	if allocatable.Value() != 7 || capacity.Value() != 7 {
		t.Errorf("allocatable %s, want the 3 charged and 4 more; capacity %s, want no less", &allocatable, &capacity)
	}
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	declares := func(features ...string) func(*corev1.Node) {
		return func(node *corev1.Node) { node.Status.DeclaredFeatures = features }
	}
	f := Facts{Name: "v", Snapshot: nodes(
		lowerNode("a", declares("B", "C")), lowerNode("b", declares("A", "B")), lowerNode("c", declares("D"), cordoned))}
	written := f.node(now)
	if diff := cmp.Diff([]string{"A", "B", "C"}, written.Status.DeclaredFeatures); diff != "" {
		t.Error(diff)
	}
	after := Facts{Name: "v", before: written}
	if diff := cmp.Diff([]string{"A", "B", "C"}, after.node(now).Status.DeclaredFeatures); diff != "" {
		t.Errorf("before the first snapshot: %s", diff)
	}
}
