package extender_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// followed waits until both virtual nodes and the extender show what the lower clusters are.
func (r *rules) followed(t *testing.T) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		for k := range r.lower {
			if err := r.follows(t, k+1); err != nil {
				return fmt.Errorf("lower-%d: %w", k+1, err)
			}
		}
		return nil
	})
}

// follows says as an error where a virtual node or the extender's view differs from the lower cluster.
func (r *rules) follows(t *testing.T, k int) error {
	nodes := r.nodes(t, k)
	name := r.lab.LowerName(k)
	node, err := r.upper.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	// The number is not written for every pod, only when it is about to be too small, or has been wrong for a while.
	own, want, largest := r.advertised(t, k, nodes)
	got := amountsOf(node.Status.Allocatable)
	for _, resource := range slices.Sorted(maps.Keys(want)) {
		if got[resource] < want[resource] && 2*(got[resource]-own[resource]) < 3*largest[resource] {
			return fmt.Errorf("allocatable %s is %d, want %d: %d are charged, a node has %d",
				resource, got[resource], want[resource], own[resource], largest[resource])
		}
	}
	usable := false
	for _, n := range nodes {
		usable = usable || n.usable
		if n.tainted == (n.ready && !n.cordoned) {
			return fmt.Errorf("the taints of %s have not followed yet", n.name)
		}
	}
	if usable && len(node.Spec.Taints) != 1 {
		return fmt.Errorf("the virtual node has the taints %v, want ours alone", node.Spec.Taints)
	}
	return r.viewed(t, name, sumFree(nodes))
}

// viewed says as an error that the extender has not seen the cluster as it is, or that pods are on their way there.
func (r *rules) viewed(t *testing.T, name string, free amounts) error {
	var view struct {
		Free  map[string]resource.Quantity
		Holds int
	}
	if err := get(t.Context(), r.lab.ExtenderURL()+"/debug/clusters/"+name, &view); err != nil {
		return err
	}
	if cpu := view.Free["cpu"]; cpu.MilliValue() != free[corev1.ResourceCPU] || view.Holds != 0 {
		return fmt.Errorf("the extender sees %s CPU free and %d holds, want %dm and none", cpu.String(), view.Holds, free[corev1.ResourceCPU])
	}
	return nil
}

// advertised is rule 3: what our pods on the virtual node ask for, and what is free on usable nodes, and of each resource the
// largest usable node's.
func (r *rules) advertised(t *testing.T, k int, nodes []lowerNode) (own, sum, largest amounts) {
	pods, err := r.upper.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + r.lab.LowerName(k)})
	if err != nil {
		t.Fatal(err)
	}
	own, sum, largest = amounts{}, sumFree(nodes), amounts{}
	for i := range pods.Items {
		own.add(requests(&pods.Items[i]), 1)
	}
	for _, node := range nodes {
		for name, amount := range node.allocatable {
			largest[name] = max(largest[name], amount)
		}
	}
	sum.add(own, 1)
	sum.add(largest, 1)
	delete(sum, keys.PodResource) // A virtual node must not list it.
	return own, sum, largest
}

// lowerNode is a lower node by what its API server says.
type lowerNode struct {
	name                             string
	ready, cordoned, usable, tainted bool
	allocatable, free                amounts
}

func (r *rules) nodes(t *testing.T, k int) []lowerNode {
	t.Helper()
	nodes, err := r.lower[k-1].CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := r.lower[k-1].CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]lowerNode, 0, len(nodes.Items))
	for _, node := range nodes.Items {
		n := lowerNode{name: node.Name, cordoned: node.Spec.Unschedulable}
		n.ready = slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		n.usable = n.ready && !n.cordoned
		n.tainted = slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoSchedule })
		n.allocatable, n.free = amountsOf(node.Status.Allocatable), amountsOf(node.Status.Allocatable)
		for i := range pods.Items {
			if pods.Items[i].Spec.NodeName == node.Name {
				n.free.add(requests(&pods.Items[i]), -1)
			}
		}
		list = append(list, n)
	}
	return list
}

// largestHole is all that is free on the usable node with the most free CPU; nil where no node has any.
func largestHole(nodes []lowerNode) amounts {
	var hole amounts
	for _, node := range nodes {
		if node.usable && node.free[corev1.ResourceCPU] > hole[corev1.ResourceCPU] {
			hole = node.free
		}
	}
	return hole
}

// sumFree is what is free on the usable nodes; a node with more used than allocatable has nothing free.
func sumFree(nodes []lowerNode) amounts {
	sum := amounts{}
	for _, node := range nodes {
		for name, amount := range node.free {
			if node.usable {
				sum[name] += max(0, amount)
			}
		}
	}
	return sum
}

// amounts are resources as kube-scheduler counts them: milli CPU, else whole units.
type amounts map[corev1.ResourceName]int64

func amountsOf(list corev1.ResourceList) amounts {
	a := amounts{}
	for name, quantity := range list {
		a[name] = quantity.Value()
		if name == corev1.ResourceCPU {
			a[name] = quantity.MilliValue()
		}
	}
	return a
}

// add adds other so many times.
func (a amounts) add(other amounts, times int64) {
	for name, amount := range other {
		a[name] += times * amount
	}
}

// requests are those of a pod with plain containers, and the pod itself; nothing of one that has ended.
func requests(pod *corev1.Pod) amounts {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	sum := amounts{corev1.ResourcePods: 1}
	for _, container := range pod.Spec.Containers {
		sum.add(amountsOf(container.Resources.Requests), 1)
	}
	return sum
}

// pod asks for the amounts.
func (a amounts) pod(name string) *corev1.Pod {
	list := corev1.ResourceList{}
	for resourceName, amount := range a {
		switch {
		case resourceName == corev1.ResourcePods || amount == 0:
		case resourceName == corev1.ResourceCPU:
			list[resourceName] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
		default:
			list[resourceName] = *resource.NewQuantity(amount, resource.DecimalSI)
		}
	}
	pod := newPod(name, list)
	if q, asks := list[gpu]; asks {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{gpu: q}
	}
	return pod
}

// nodeChange is a merge patch of a lower node, or of its status.
type nodeChange struct {
	patch        string
	subresources []string
}

func cordon(on bool) nodeChange {
	return nodeChange{patch: fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, on)}
}

func notReady(on bool) nodeChange {
	if !on {
		return nodeChange{patch: `{"metadata":{"annotations":{"lab.tessera.sh/not-ready":null}}}`}
	}
	return nodeChange{patch: `{"metadata":{"annotations":{"lab.tessera.sh/not-ready":"true"}}}`}
}

func resized(milliCPU int64) nodeChange {
	return nodeChange{patch: fmt.Sprintf(`{"status":{"allocatable":{"cpu":"%dm"}}}`, milliCPU), subresources: []string{"status"}}
}

func (r *rules) patchNode(t *testing.T, k int, name string, change nodeChange) {
	t.Helper()
	_, err := r.lower[k-1].CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType, []byte(change.patch), metav1.PatchOptions{},
		change.subresources...)
	if err != nil {
		t.Fatal(err)
	}
}
