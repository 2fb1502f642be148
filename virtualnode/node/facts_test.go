package node

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

var now = time.Unix(100000, 0)

// lowerNode is a Ready node of 16 CPU that carries the labels of a real one.
func lowerNode(name string, change ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r",
			corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
		}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(node)
	}
	return node
}

func cordoned(node *corev1.Node) { node.Spec.Unschedulable = true }

func picture(nodes ...*snapshot.Node) *snapshot.Snapshot {
	return snapshot.New(snapshot.Content{Cluster: "v", Nodes: nodes})
}

func healthy() lower.Health { return lower.Health{Synced: true, Contact: now, Answered: now} }

// The example of rule 3: 10 nodes of 16 CPU, 5 cordoned and full of our pods, 5 empty.
func TestAllocatableNeverRefuses(t *testing.T) {
	t.Parallel()
	own := snapshot.Resources{MilliCPU: 16000, Pods: 1}
	var nodes []*snapshot.Node
	var above []*corev1.Pod
	for i := range 5 {
		nodes = append(nodes,
			snapshot.NewNode(lowerNode(fmt.Sprint("full-", i), cordoned), []*snapshot.LowerPod{{Requests: own}}),
			snapshot.NewNode(lowerNode(fmt.Sprint("empty-", i)), nil))
		above = append(above, upperPod("16", ""))
	}
	f := Facts{Name: "v", Health: healthy(), Snapshot: picture(nodes...), Own: charged(above...).Sum()}
	node := f.node(now)
	free := node.Status.Allocatable.Cpu().MilliValue() - charged(above...).Sum().MilliCPU
	if free < 80000 {
		t.Errorf("the upper scheduler sees %d milli CPU free, at least 80000 are", free)
	}
	if got := node.Status.Capacity.Cpu().MilliValue(); got != node.Status.Allocatable.Cpu().MilliValue() {
		t.Errorf("capacity %d milli CPU is not what may be allocated, though that is more than the 80 of the usable nodes", got)
	}
	if _, ok := node.Status.Allocatable[keys.PodResource]; ok {
		t.Errorf("the node lists %s, which would make the kubelet's admission and the scheduler compare it", keys.PodResource)
	}
}

func upperPod(cpu string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: uuid.NewUUID()},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), keys.PodResource: resource.MustParse("0"),
		}}}}},
		Status: corev1.PodStatus{Phase: phase},
	}
}

func charged(pods ...*corev1.Pod) *Charges {
	c := &Charges{}
	for _, pod := range pods {
		c.take(pod)
	}
	return c
}

func TestChargedCountsAsTheSchedulerDoes(t *testing.T) {
	t.Parallel()
	ending := upperPod("1", corev1.PodRunning)
	ending.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	first := upperPod("1", corev1.PodPending)
	charges := charged(first, ending, upperPod("1", corev1.PodSucceeded), upperPod("1", corev1.PodFailed))
	if diff := cmp.Diff(snapshot.Resources{MilliCPU: 2000, Pods: 2}, charges.Sum()); diff != "" {
		t.Error(diff)
	}
	changes := 0
	handler := charges.Handler(func() { changes++ })
	resized, gpu := upperPod("3", corev1.PodRunning), upperPod("1", corev1.PodRunning)
	resized.UID = ending.UID
	gpu.Spec.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("2")
	handler.OnUpdate(ending, resized)
	handler.OnAdd(gpu, false)
	if got := charges.Sum(); got.MilliCPU != 5000 || got.Pods != 3 || got.Scalars["example.com/gpu"] != 2 {
		t.Errorf("resized, and one with a device: %+v", got)
	}
	handler.OnDelete(cache.DeletedFinalStateUnknown{Key: "ns/gpu", Obj: gpu})
	over := first.DeepCopy()
	over.Status.Phase = corev1.PodSucceeded
	handler.OnUpdate(first, over)
	handler.OnDelete(over)
	if diff := cmp.Diff(snapshot.Resources{MilliCPU: 3000, Pods: 1}, charges.Sum()); diff != "" {
		t.Errorf("the others gone: %s", diff)
	}
	if changes != 5 {
		t.Errorf("%d changes were told, want 5", changes)
	}
}

// Sums stop at the largest number; when those go that made it too large, it is right again.
func TestChargedTooMuch(t *testing.T) {
	t.Parallel()
	charges, huge := charged(upperPod("1", "")), []*corev1.Pod(nil)
	for range 2000 { // Each asks for as much as counts of one pod.
		pod := upperPod("1", "")
		pod.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = resource.MustParse("1Ei")
		huge = append(huge, pod)
		charges.take(pod)
	}
	if got := charges.Sum(); got.Memory != math.MaxInt64 {
		t.Fatalf("the sum is %+v: this test shows nothing", got)
	}
	for _, pod := range huge {
		charges.drop(pod.UID)
	}
	if diff := cmp.Diff(snapshot.Resources{MilliCPU: 1000, Pods: 1}, charges.Sum()); diff != "" {
		t.Error(diff)
	}
}

// The time of the last transition moves with the status alone, or every write would be a change.
func TestReadyTransition(t *testing.T) {
	t.Parallel()
	f := Facts{Name: "v", Health: healthy(), Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil))}
	f.before = f.node(now)
	later := now.Add(time.Minute)
	f.Health.Contact, f.Health.Answered = later, later
	if diff := cmp.Diff(f.before, f.node(later)); diff != "" { // The network's condition keeps the time it has.
		t.Errorf("nothing changed, and yet: %s", diff)
	}
	f.Broken = "gone"
	if got := f.node(later).Status.Conditions[0].LastTransitionTime; !got.Time.Equal(later) {
		t.Errorf("transition at %s, want %s", got, later)
	}
}

// After a start nothing is known yet: what was written last stays until something is.
func TestNodeBeforeTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	before := Facts{Name: "v", Health: healthy(), Snapshot: picture(snapshot.NewNode(lowerNode("a"), nil)), Version: "v1.36.3"}
	f := Facts{Name: "v", before: before.node(now)}
	got := f.node(now)
	if diff := cmp.Diff(f.before.Status.Allocatable, got.Status.Allocatable); diff != "" {
		t.Error(diff)
	}
	if got.Status.NodeInfo.KubeletVersion != "v1.36.3" || got.Labels[corev1.LabelArchStable] != "amd64" {
		t.Errorf("version %q and labels %v were known", got.Status.NodeInfo.KubeletVersion, got.Labels)
	}
}

// A condition beside Ready has a time that moves with its status alone.
func TestTimeOfACondition(t *testing.T) {
	t.Parallel()
	f := Facts{Name: "v", More: []corev1.NodeCondition{Orphans(Brake{})}}
	later := now.Add(time.Minute)
	for _, step := range []struct {
		brake string
		at    time.Time
		since time.Time
	}{{"", now, now}, {"50 of 50 pods", later, later}, {"51 of 51 pods", later.Add(time.Minute), later}} {
		f.More = []corev1.NodeCondition{Orphans(Brake{Orphans: step.brake})}
		f.before = f.node(step.at)
		got := f.conditionBefore(keys.OrphanBrake)
		if (got.Status == corev1.ConditionTrue) != (step.brake != "") || !got.LastTransitionTime.Time.Equal(step.since) {
			t.Errorf("%q: %+v", step.brake, got)
		}
	}
}

// The Node says where the kubelet API is. Without an API it has no address, but keeps its port, so that it gets the same again.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	before := &corev1.Node{}
	before.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "192.0.2.1"}}
	before.Status.DaemonEndpoints.KubeletEndpoint.Port = 10301
	for name, c := range map[string]struct {
		facts     Facts
		addresses []corev1.NodeAddress
		port      int32
	}{
		"none":    {Facts{}, nil, 0},
		"first":   {Facts{Address: "192.0.2.2", AddressType: corev1.NodeHostName, Port: 10300}, []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "192.0.2.2"}}, 10300},
		"another": {Facts{Address: "192.0.2.2", AddressType: corev1.NodeInternalIP, Port: 10302, before: before}, []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}}, 10302},
		"away":    {Facts{Address: "192.0.2.2", AddressType: corev1.NodeHostName, before: before}, nil, 10301},
		"no way":  {Facts{AddressType: corev1.NodeHostName, Port: 10300, before: before}, nil, 10300},
	} {
		c.facts.Name = "v"
		status := c.facts.node(now).Status
		if diff := cmp.Diff(c.addresses, status.Addresses); diff != "" || status.DaemonEndpoints.KubeletEndpoint.Port != c.port {
			t.Errorf("%s: port %d, addresses %s", name, status.DaemonEndpoints.KubeletEndpoint.Port, diff)
		}
	}
}
