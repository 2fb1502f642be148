package virtualnode_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// lostPatience is for what the upper cluster makes of a lost node: 8 s until it is noticed, 10 s between two nodes, 5 s of
// tolerations.
const lostPatience = time.Minute

// One lab with short timers, in which lower clusters and their nodes fall out one way after the other. lower-1 keeps its
// pods when it is lost, lower-2 does not, and a second virtual node on lower-2 waits before it gives them up.
func nodesFallOut(t *testing.T) {
	const lastNode = corev1.LabelHostname + "=lower-2-node-0003"
	l := own(t, lab.Options{
		// With fewer nodes of its own, three lost ones are more than half of the zone, and node-lifecycle evicts nobody.
		Lower: 2, Nodes: 3, UpperNodes: 4, ShortTimers: true,
		Parts: []string{lab.PartExtender, lab.PartAdmission, lab.PartVirtualNode},
		Config: map[string]map[string]any{lab.PartVirtualNode: {
			"network": "flat",
			"perCluster": map[string]any{
				"lower-1": map[string]any{"onLost": "keep"},
				"lower-2": map[string]any{"nodes": strings.Replace(lastNode, "=", "!=", 1)},
				lateNode:  map[string]any{"nodes": lastNode, "onLost": map[string]any{"after": lateAfter.String()}},
			},
		}},
	})
	for _, story := range []struct {
		name string
		tell func(*world)
	}{
		{"shows what its nodes share", showsWhatIsShared},
		{"says that addresses overlap", saysOverlap},
		{"says why a cluster is lost", saysWhy},
		{"a glitch moves nothing", glitch},
		{"cordon and drain", cordonAndDrain},
		{"lost", lost},
		{"one cluster under two names", twoNames}, // The last, as the Node that it leaves would count among those that are lost.
	} {
		if !t.Run(story.name, func(t *testing.T) {
			w := newWorld(t, l)
			patch(w, w.upper, "namespaces", w.ns, `{"metadata":{"labels":{"`+keys.Enabled+`":"true"}}}`)
			story.tell(w)
		}) {
			return // The next would find a broken lab.
		}
	}
}

// Whoever joins a cluster again under another name, without selectors that keep the two apart, would give its room away twice. The
// first goes on as it was, and the second takes over when the first goes.
func twoNames(w *world) {
	const again = "again"
	first := w.lab.LowerName(1)
	kubeconfig, _ := w.kubeconfig(1)
	if err := os.WriteFile(clusterFile(w.lab, again), kubeconfig, 0o600); err != nil {
		w.Fatal(err)
	}
	w.Logf("the node says: %s", w.nodeUsable(again, string(keys.OtherCluster)).Message)
	w.create(w.pod("again", 1, on(again), func(p *corev1.Pod) { // Whatever the taint says.
		p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}))
	w.create(w.pod("first", 1))
	w.becomes(w.upper, "first", "Running", running)
	w.becomes(w.upper, "again", "refused", func(p *corev1.Pod) bool {
		return strings.Contains(conditionOf(p.Status.Conditions, corev1.PodScheduled).Message, "does not stand for")
	})
	w.nodeReady(first, corev1.ConditionTrue, "LowerAnswers")
	if err := os.Remove(clusterFile(w.lab, first)); err != nil {
		w.Fatal(err)
	}
	w.nodeReady(again, corev1.ConditionTrue, "LowerAnswers")
}

// patch merges a change into a Node ("nodes", "nodes/status") or a Namespace.
func patch(w *world, client kubernetes.Interface, resource, name, change string) {
	w.Helper()
	kind, sub, _ := strings.Cut(resource, "/")
	request := client.CoreV1().RESTClient().Patch(types.StrategicMergePatchType).Resource(kind).Name(name).Body([]byte(change))
	if sub != "" {
		request = request.SubResource(sub)
	}
	if err := request.Do(w.Context()).Error(); err != nil {
		w.Fatal(err)
	}
}

// node waits until the virtual node satisfies ok, which returns what is missing.
func (w *world) node(name string, ok func(*corev1.Node) error) *corev1.Node {
	w.Helper()
	var node *corev1.Node
	lab.Eventually(w.T, lostPatience, func() (err error) {
		if node, err = w.upper.CoreV1().Nodes().Get(w.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		return ok(node)
	})
	return node
}

func showsWhatIsShared(w *world) {
	below, name := w.lower(1), w.lab.LowerName(1)
	all := func(labels string) {
		for i := 1; i <= 3; i++ {
			patch(w, below, "nodes", w.lab.NodeName(1, i), `{"metadata":{"labels":`+labels+`}}`)
		}
	}
	has := func(pairs ...string) {
		w.Helper()
		w.node(name, func(node *corev1.Node) error {
			for i := 0; i < len(pairs); i += 2 {
				if got := node.Labels[pairs[i]]; got != pairs[i+1] {
					return fmt.Errorf("label %s is %q, want %q", pairs[i], got, pairs[i+1])
				}
			}
			return nil
		})
	}
	all(`{"example.com/disk":"ssd","topology.kubernetes.io/zone":"z1"}`)
	patch(w, below, "nodes/status", w.lab.NodeName(1, 2), `{"status":{"declaredFeatures":["GuaranteedQoSPodCPUResize"]}}`)
	has("example.com/disk", "ssd", keys.Zone, "z1", corev1.LabelTopologyZone, "", corev1.LabelHostname, "")
	w.node(name, func(node *corev1.Node) error {
		if len(node.Status.DeclaredFeatures) != 1 {
			return fmt.Errorf("declared features: %v", node.Status.DeclaredFeatures)
		}
		return nil
	})
	// What somebody gave the Node is theirs, also where the lower nodes say otherwise, until they take it off.
	patch(w, w.upper, "nodes", name, `{"metadata":{"labels":{"example.com/disk":"mine","example.com/own":"mine"}}}`)
	all(`{"example.com/disk":"nvme","example.com/rack":"r1","topology.kubernetes.io/zone":null}`)
	has("example.com/rack", "r1", keys.Zone, "", "example.com/disk", "mine", "example.com/own", "mine")
	patch(w, w.upper, "nodes", name, `{"metadata":{"labels":{"example.com/disk":null}}}`)
	has("example.com/disk", "nvme", "example.com/own", "mine")
}

func saysOverlap(w *world) {
	is := func(status corev1.ConditionStatus, k int, says string) {
		w.Helper()
		w.node(w.lab.LowerName(k), func(node *corev1.Node) error {
			c := nodeCondition(node, keys.NetworkOverlap)
			if c.Status != status || !strings.Contains(c.Message, says) {
				return fmt.Errorf("node %s: overlap %q: %s", node.Name, c.Status, c.Message)
			}
			return nil
		})
	}
	put := func(client kubernetes.Interface) {
		w.Helper()
		extra := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "ranged"}, Spec: corev1.NodeSpec{PodCIDR: "10.77.0.0/24", PodCIDRs: []string{"10.77.0.0/24"}},
		}
		if _, err := client.CoreV1().Nodes().Create(w.Context(), extra, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	remove := func(client kubernetes.Interface) {
		w.Helper()
		if err := client.CoreV1().Nodes().Delete(w.Context(), "ranged", metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	is(corev1.ConditionFalse, 1, "")
	is(corev1.ConditionFalse, 2, "")
	put(w.lower(1))
	put(w.lower(2))
	is(corev1.ConditionTrue, 1, w.lab.LowerName(2))
	is(corev1.ConditionTrue, 2, w.lab.LowerName(1))
	remove(w.lower(2))
	put(w.upper)
	is(corev1.ConditionTrue, 1, "the upper cluster")
	is(corev1.ConditionFalse, 2, "")
	remove(w.upper)
	is(corev1.ConditionFalse, 1, "")
	remove(w.lower(1))
}

func saysWhy(w *world) {
	name, below := w.lab.LowerName(2), w.lower(2)
	good, write := w.kubeconfig(2)
	write(revoked(good))
	w.Logf("the node says: %s", w.nodeUsable(name, "CredentialsExpired").Message)
	bindings := below.RbacV1().ClusterRoleBindings()
	binding, err := bindings.Get(w.Context(), "tessera", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	if err := bindings.Delete(w.Context(), "tessera", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	// A new token alone is sent by those who watch already, and an open watch does not notice that a right is missing.
	if err := os.Remove(clusterFile(w.lab, name)); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error { return logged(w.lab, "Lower cluster leaves") })
	write(good)
	if c := w.nodeUsable(name, "Forbidden"); !strings.Contains(c.Message, "cannot list resource") {
		w.Errorf("the node says %q, which names no verb and resource", c.Message)
	}
	binding.ResourceVersion = ""
	if _, err := bindings.Create(w.Context(), binding, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	lab.Eventually(w.T, lostPatience, func() error { // Its informers try again in growing pauses.
		return readyAgain(w, name)
	})
}

func readyAgain(w *world, names ...string) error {
	for _, name := range names {
		node, err := w.upper.CoreV1().Nodes().Get(w.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, keys.Usable} {
			if c := nodeCondition(node, kind); c.Status != corev1.ConditionTrue {
				return fmt.Errorf("node %s: %s %s", name, c.Reason, c.Message)
			}
		}
		for _, taint := range node.Spec.Taints {
			if taint.Effect == corev1.TaintEffectNoExecute || taint.Key == keys.UnusableTaint {
				return fmt.Errorf("node %s has taint %s", name, taint.Key)
			}
		}
	}
	return nil
}

func nodeCondition(node *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// An API server that answers nothing for three seconds moves neither node nor pod.
func glitch(w *world) {
	name := w.lab.LowerName(1)
	w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)
	staysReady := w.staysReady(name)
	watcher, err := w.upper.CoreV1().Pods(w.ns).Watch(w.Context(), metav1.ListOptions{})
	pods := seen[*corev1.Pod](w, watcher, err)
	w.stopped(name+"/apiserver", 3*time.Second)
	w.create(w.pod("after", 1))
	w.becomes(w.upper, "after", "Running", running)
	staysReady()
	for _, pod := range pods() {
		if pod.Name == "p" && (pod.DeletionTimestamp != nil || conditionOf(pod.Status.Conditions, corev1.PodReady).Status != corev1.ConditionTrue) {
			w.Errorf("the pod was moved: %+v", pod.Status.Conditions)
		}
	}
	for _, pod := range []string{"p", "after"} {
		if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), pod, metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.vanishes(w.upper, pod)
	}
}

// staysReady watches a virtual node; the function it returns fails the test if it was anything but Ready since.
func (w *world) staysReady(name string) (check func()) {
	w.Helper()
	nodes := w.nodesSeen(name)
	return func() {
		w.Helper()
		for _, node := range nodes() {
			if c := nodeCondition(node, corev1.NodeReady); c.Status != corev1.ConditionTrue {
				w.Errorf("the node was Ready=%s: %s %s", c.Status, c.Reason, c.Message)
			}
		}
	}
}

// nodesSeen watches a virtual node.
func (w *world) nodesSeen(name string) func() []*corev1.Node {
	w.Helper()
	watcher, err := w.upper.CoreV1().Nodes().Watch(w.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	return seen[*corev1.Node](w, watcher, err)
}

// stopped stops a process for a while.
func (w *world) stopped(process string, d time.Duration) {
	w.Helper()
	if err := w.lab.Process(process).Signal(syscall.SIGSTOP); err != nil {
		w.Fatal(err)
	}
	begin := time.Now()
	w.eventually(func() error {
		if time.Since(begin) < d {
			return errors.New("it is stopped")
		}
		return w.lab.Process(process).Signal(syscall.SIGCONT)
	})
}

func cordonAndDrain(w *world) {
	name, other := w.lab.LowerName(1), w.lab.LowerName(2)
	w.kubectl("cordon", other)
	w.workload("web", "", 4)
	least := intstr.FromInt32(3)
	_, err := w.upper.PolicyV1().PodDisruptionBudgets(w.ns).Create(w.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	first := w.replicas("web", name, 4) // None came to the cordoned node.
	w.kubectl("uncordon", other)
	watcher, err := w.upper.CoreV1().Pods(w.ns).Watch(w.Context(), metav1.ListOptions{})
	pods := seen[*corev1.Pod](w, watcher, err)
	w.kubectl("drain", name, "--timeout=60s", "--pod-selector=app=web")
	second := w.replicas("web", other, 4)
	ready := len(first)
	for uid := range second {
		if first[uid] {
			w.Errorf("pod %s was on the drained node", uid)
		}
	}
	fewest := ready
	state := map[types.UID]bool{}
	for uid := range first {
		state[uid] = true
	}
	for _, pod := range pods() {
		state[pod.UID] = pod.DeletionTimestamp == nil && conditionOf(pod.Status.Conditions, corev1.PodReady).Status == corev1.ConditionTrue
		count := 0
		for _, up := range state {
			if up {
				count++
			}
		}
		fewest = min(fewest, count)
	}
	if fewest < 3 {
		w.Errorf("only %d pods were ready at a time, the budget wants 3", fewest)
	}
	w.eventually(func() error {
		if left := w.below("web", 1); len(left) > 0 {
			return fmt.Errorf("%d pods are left below", len(left))
		}
		return nil
	})
	w.node(name, func(node *corev1.Node) error {
		if !node.Spec.Unschedulable {
			return errors.New("the cordon was taken off")
		}
		return nil
	})
	w.kubectl("uncordon", name)
	if err := w.upper.AppsV1().Deployments(w.ns).Delete(w.Context(), "web", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) kubectl(args ...string) {
	w.Helper()
	if out, err := w.lab.Kubectl(w.Context(), args...); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
}
