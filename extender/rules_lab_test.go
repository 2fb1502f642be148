package extender_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// gpu is an extended resource that only the nodes of lower-2 have.
const gpu corev1.ResourceName = "example.com/gpu"

// TestRules has the real upper scheduler confirm what no test of ours alone can: that its own filters and its preemption
// get along with virtual nodes. lower-1 has 10 nodes of 16 CPU, lower-2 has 3 that have 4 GPUs as well.
func TestRules(t *testing.T) {
	r := newRules(t)
	t.Run("room beside cordoned nodes is shown and used", r.roomBesideCordonedNodes)
	t.Run("what the extender takes passes the scheduler's own filters", r.extenderFitsMeansSchedulerFits)
	t.Run("a refusal is resolvable on the nominated node alone", r.refusal)
	t.Run("a refused pod keeps its nomination and kills nobody", r.nomination)
	t.Run("what its own filters refuse kills nobody", r.noPreemption)
	t.Run("refused pods rest while others come and go below", r.refusedPodsRest)
	t.Run("plain pods share a virtual node", r.plainPods)
	t.Run("extended resources of several lower nodes are used", r.extendedResources)
	t.Run("a host port is taken once a virtual node", r.hostPorts)
	t.Run("ordinary pods spread beside virtual nodes", r.ordinarySpread)
	t.Run("a name or namespace that is taken below is seen first", r.nameTaken)
	t.Run("a lower node whose kubelet refused a pod is avoided", r.kubeletRefused)
	t.Run("a bind that nobody asked about is counted", r.unasked)
	t.Run("what is reserved for the lower cluster's growth is left alone", r.reserve)
}

// rules is the lab of these cases. Each of them leaves it empty.
type rules struct {
	faults
	lower []kubernetes.Interface // [0] is lower-1
}

func newRules(t *testing.T) *rules {
	t.Helper()
	var shapes []lab.Shape
	for _, text := range []string{"cpu=16,count=10,cluster=1", "cpu=16,example.com/gpu=4,count=3,cluster=2"} {
		shape, err := lab.ParseShape(text)
		if err != nil {
			t.Fatal(err)
		}
		shapes = append(shapes, shape)
	}
	l := startLab(t, lab.Options{Lower: 2, UpperNodes: 2, Shapes: shapes, Parts: path})
	return &rules{
		faults: faults{lab: l, upper: client(t, l.Upper())},
		lower:  []kubernetes.Interface{client(t, l.Lower(1)), client(t, l.Lower(2))},
	}
}

// refusal asks the extender as the scheduler would about a pod that fits nowhere.
func (r *rules) refusal(t *testing.T) {
	names := []string{"lower-1", "lower-2", "upper-node-0001"}
	for _, nominated := range []string{"", "lower-1", "lower-2", "upper-node-0001"} {
		pod := newPod("huge", cpus(1000))
		pod.Status.NominatedNodeName = nominated
		first, second := r.filter(t, pod, names), r.filter(t, pod, names)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("nominated to %q: the second answer differs:\n%s", nominated, diff)
		}
		if diff := cmp.Diff([]string{"upper-node-0001"}, *first.NodeNames); diff != "" {
			t.Errorf("nominated to %q, passed:\n%s", nominated, diff)
		}
		for _, name := range names[:2] {
			text, resolvable := first.FailedNodes[name]
			if !resolvable {
				text = first.FailedAndUnresolvableNodes[name]
			}
			if resolvable != (name == nominated) {
				t.Errorf("nominated to %q: %s is refused as resolvable: %t", nominated, name, resolvable)
			}
			if text == "" || strings.ContainsAny(text, "0123456789") {
				t.Errorf("nominated to %q: %s is refused with %q, which is no text that stays the same", nominated, name, text)
			}
		}
	}
}

// nomination: a pod of high priority is nominated to lower-2, where a pod of low priority takes its time to end. The extender
// goes on refusing it until then, and the scheduler neither takes the nomination back nor looks for more victims.
func (r *rules) nomination(t *testing.T) {
	newNamespace(t, r.upper, "nominated", true)
	defer r.empty(t, "nominated")
	r.priorityClass(t, "high", 1000)
	r.followed(t)       // While a virtual node shows less room than there is, the scheduler's own filter refuses, and it preempts.
	for i := range 13 { // One on each lower node: 6 CPU stay free everywhere.
		low := newPod(fmt.Sprintf("low-%d", i), cpus(10))
		low.Annotations["lab.tessera.sh/slow-stop"] = "true"
		r.create(t, "nominated", low)
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, "nominated", 13) })
	high := newPod("high", cpus(16))
	high.Spec.PriorityClassName = "high"
	r.create(t, "nominated", high)
	words := ours(r.refusedWith(t, "nominated", "high", string(keys.Fragmented)))

	victim := r.firstOn(t, "nominated", "lower-2")
	r.patchStatus(t, "nominated", victim, corev1.PodStatus{Conditions: []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		LastTransitionTime: metav1.Now(), // Without it the disruption controller takes the condition back as too old.
	}}})
	if err := r.upper.CoreV1().Pods("nominated").Delete(t.Context(), victim, *metav1.NewDeleteOptions(40)); err != nil {
		t.Fatal(err)
	}
	r.nominate(t, "nominated", "high", "lower-2")
	for range 4 {
		r.tryAgain(t, "nominated", "high")
		if got := ours(r.refusedWith(t, "nominated", "high", "not eligible due to a terminating pod")); got != words {
			t.Errorf("the text of the refusal changed from %q to %q: each change wakes the pod", words, got)
		}
		r.noneDies(t, "nominated", victim)
		if pod := r.pod(t, "nominated", "high"); pod.Status.NominatedNodeName != "lower-2" || pod.Spec.NodeName != "" {
			t.Fatalf("the pod is nominated to %q and bound to %q, want lower-2 and no node", pod.Status.NominatedNodeName, pod.Spec.NodeName)
		}
	}

	if err := r.lower[1].CoreV1().Pods("nominated").Delete(t.Context(), victim, *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	r.boundTo(t, "nominated", "high", "lower-2")
	r.noneDies(t, "nominated", victim)
}

// nominate writes a nomination as kube-scheduler does after it has ended a victim, until it has seen it: an attempt that was under way,
// woken by the end of the victim, takes it back.
func (r *rules) nominate(t *testing.T, namespace, name, node string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		if r.pod(t, namespace, name).Status.NominatedNodeName != node {
			r.patchStatus(t, namespace, name, corev1.PodStatus{NominatedNodeName: node})
		}
		r.tryAgain(t, namespace, name)
		if pod := r.pod(t, namespace, name); pod.Status.NominatedNodeName != node {
			return fmt.Errorf("an attempt that was under way has taken the nomination of %s back", name)
		}
		return nil
	})
}

// ours is what the scheduler says of a refusal before it comes to preemption, which is its own affair.
func ours(message string) string {
	words, _, _ := strings.Cut(message, " preemption:")
	return words
}

// plainPods: two pods that need a lower node each go to one virtual node.
func (r *rules) plainPods(t *testing.T) {
	newNamespace(t, r.upper, "plain", true)
	defer r.empty(t, "plain")
	for _, name := range []string{"a", "b"} {
		r.create(t, "plain", pinned(newPod(name, cpus(10)), "lower-2"))
	}
	r.runApart(t, "plain", 2)
}

// extendedResources: three pods take the GPUs of a lower node each. The fourth is the extender's to refuse, which then wakes it.
func (r *rules) extendedResources(t *testing.T) {
	newNamespace(t, r.upper, "gpus", true)
	defer r.empty(t, "gpus")
	four := func(name string) *corev1.Pod {
		pod := pinned(newPod(name, cpus(1)), "lower-2") // Of lower-1, which has none, the scheduler's own filter says so rightly.
		pod.Spec.Containers[0].Resources.Requests[gpu] = resource.MustParse("4")
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{gpu: resource.MustParse("4")}
		return pod
	}
	for _, name := range []string{"a", "b", "c"} {
		r.create(t, "gpus", four(name))
	}
	r.runApart(t, "gpus", 3)
	r.create(t, "gpus", four("d"))
	words := r.refusedWith(t, "gpus", "d", string(keys.InsufficientExtendedResource))
	if strings.Contains(words, "Insufficient "+string(gpu)) {
		t.Errorf("the scheduler's own filter refused a virtual node: %s", words)
	}
	r.delete(t, "gpus", "b")
	r.boundTo(t, "gpus", "d", "lower-2")
}

// hostPorts pins what docs/limits.md says: above, a virtual node counts as one machine, so it takes a host port once.
func (r *rules) hostPorts(t *testing.T) {
	newNamespace(t, r.upper, "ports", true)
	defer r.empty(t, "ports")
	serving := func(name string) *corev1.Pod {
		pod := newPod(name, cpus(1))
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		return pod
	}
	taken := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		r.create(t, "ports", serving(name))
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), r.upper, "ports", name) })
		taken[r.pod(t, "ports", name).Spec.NodeName] = true
	}
	if !taken["lower-1"] || !taken["lower-2"] {
		t.Errorf("two pods with one host port went to %v, want a virtual node each", slices.Collect(maps.Keys(taken)))
	}
	r.create(t, "ports", serving("c"))
	r.refusedWith(t, "ports", "c", "didn't have free ports")
	freed := r.pod(t, "ports", "a").Spec.NodeName
	r.delete(t, "ports", "a")
	r.boundTo(t, "ports", "c", freed)
}

// ordinarySpread: pods that are not Tessera's spread over the real nodes as if there were no virtual ones.
func (r *rules) ordinarySpread(t *testing.T) {
	for _, name := range []string{"lower-1", "lower-2"} {
		node, err := r.upper.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
			if value, set := node.Labels[key]; set {
				t.Errorf("virtual node %s has the label %s=%s, by which ordinary pods are spread", name, key, value)
			}
		}
	}
	for namespace, key := range map[string]string{"by-hostname": corev1.LabelHostname, "by-zone": corev1.LabelTopologyZone} {
		newNamespace(t, r.upper, namespace, false)
		defer r.empty(t, namespace)
		for i := range 6 {
			pod := newPod(fmt.Sprintf("web-%d", i), cpus(1))
			pod.Labels["app"] = "web"
			pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule,
				LabelSelector: metav1.SetAsLabelSelector(pod.Labels),
			}}
			r.create(t, namespace, pod)
		}
		counts := map[string]int{}
		for i := range 6 {
			name := fmt.Sprintf("web-%d", i)
			lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), r.upper, namespace, name) })
			counts[r.pod(t, namespace, name).Spec.NodeName]++
		}
		if diff := cmp.Diff(map[string]int{"upper-node-0001": 3, "upper-node-0002": 3}, counts); diff != "" {
			t.Errorf("spread %s:\n%s", namespace, diff)
		}
	}
}

func cpus(n int64) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(n, resource.DecimalSI)}
}

// pinned asks for one virtual node.
func pinned(pod *corev1.Pod, virtualNode string) *corev1.Pod {
	pod.Spec.NodeSelector = map[string]string{keys.Cluster: virtualNode}
	return pod
}

func (r *rules) create(t *testing.T, namespace string, pod *corev1.Pod) {
	t.Helper()
	if _, err := r.upper.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (r *rules) delete(t *testing.T, namespace, name string) {
	t.Helper()
	if err := r.upper.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (r *rules) pod(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	pod, err := r.upper.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// empty deletes the pods of a namespace and waits until nothing of them is left, above and below.
func (r *rules) empty(t *testing.T, namespace string) {
	t.Helper()
	r.clear(t, namespace)
	lab.Eventually(t, time.Minute, func() error {
		for k, c := range r.lower {
			pods, err := c.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
			if err == nil && len(pods.Items) > 0 {
				err = fmt.Errorf("%d pods of %s are still in lower-%d", len(pods.Items), namespace, k+1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// boundTo waits until a pod has its node, and that node must be the one.
func (r *rules) boundTo(t *testing.T, namespace, name, node string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), r.upper, namespace, name) })
	if got := r.pod(t, namespace, name).Spec.NodeName; got != node {
		t.Errorf("%s/%s went to %s, want %s", namespace, name, got, node)
	}
}

// runApart waits until n pods of the namespace run behind lower-2, each on a lower node of its own.
func (r *rules) runApart(t *testing.T, namespace string, n int) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, namespace, n) })
	pods, err := r.lower[1].CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]bool{}
	for _, pod := range pods.Items {
		nodes[pod.Spec.NodeName] = true
	}
	if len(nodes) != n {
		t.Errorf("%d pods of %s run on the nodes %v of lower-2, want %d nodes", n, namespace, slices.Collect(maps.Keys(nodes)), n)
	}
}

// refusedWith waits until the scheduler says of a pod that it has no node, with these words in it, and returns all it says.
func (r *rules) refusedWith(t *testing.T, namespace, name, words string) string {
	t.Helper()
	said := ""
	lab.Eventually(t, time.Minute, func() error {
		pod, err := r.upper.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(pod.Status.Conditions, refused); i >= 0 {
			said = pod.Status.Conditions[i].Message
		}
		if !strings.Contains(said, words) {
			return fmt.Errorf("the scheduler does not say %q of %s on %q but %q", words, name, pod.Spec.NodeName, said)
		}
		return nil
	})
	return said
}

// tryAgain wakes a refused pod and waits until the extender was asked about it once more.
func (r *rules) tryAgain(t *testing.T, namespace, name string) {
	t.Helper()
	var before, after struct{ When time.Time }
	url := fmt.Sprintf("%s/debug/pods/%s/%s", r.lab.ExtenderURL(), namespace, name)
	if err := get(t.Context(), url, &before); err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"again":%q}}}`, before.When)
	if _, err := r.upper.CoreV1().Pods(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		err := get(t.Context(), url, &after)
		if err == nil && !after.When.After(before.When) {
			err = fmt.Errorf("%s was not asked about since %s", name, before.When)
		}
		return err
	})
}

// noneDies fails if a pod other than the victim is being deleted.
func (r *rules) noneDies(t *testing.T, namespace, victim string) {
	t.Helper()
	pods, err := r.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alive := 0
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			alive++
		} else if pod.Name != victim {
			t.Errorf("%s is being deleted", pod.Name)
		}
	}
	if alive != 13 { // 12 of low priority and the one that waits.
		t.Errorf("%d pods are alive, want the pod and the 12 that are no victims", alive)
	}
}

// firstOn is the name of a pod of the namespace on that virtual node.
func (r *rules) firstOn(t *testing.T, namespace, node string) string {
	t.Helper()
	pods, err := r.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) == 0 {
		t.Fatalf("no pod of %s is on %s", namespace, node)
	}
	return pods.Items[0].Name
}

func (r *rules) patchStatus(t *testing.T, namespace, name string, status corev1.PodStatus) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.upper.CoreV1().Pods(namespace).Patch(t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rules) priorityClass(t *testing.T, name string, value int32) {
	t.Helper()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	if _, err := r.upper.SchedulingV1().PriorityClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// filter asks the extender in the scheduler's words. A pod without UID is nobody's: no room is held for it.
func (r *rules) filter(t *testing.T, pod *corev1.Pod, names []string) extenderv1.ExtenderFilterResult {
	t.Helper()
	var result extenderv1.ExtenderFilterResult
	args := extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names}
	if err := post(t.Context(), r.lab.ExtenderURL()+"/scheduler/filter", args, &result); err != nil {
		t.Fatal(err)
	}
	return result
}
