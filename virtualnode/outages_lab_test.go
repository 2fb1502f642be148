package virtualnode_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Two labs whose timers are so short that a machine which is busy with something else looks like one that is dead: beside each other,
// and beside nothing else.
func TestOutages(t *testing.T) {
	for name, stories := range map[string]func(*testing.T){"nobody's pods": nobodysPods, "nodes": nodesFallOut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stories(t)
		})
	}
}

// Whatever is away or refuses, nobody loses a pod for it, with the tolerations that every pod has by default.
func nobodysPods(t *testing.T) {
	l := own(t, lab.Options{
		Lower: 3, Nodes: 2, UpperNodes: 1, ShortTimers: !lab.Chaos(),
		Parts: []string{lab.PartExtender, lab.PartAdmission, lab.PartVirtualNode},
	})
	for _, story := range []struct {
		name string
		tell func(*outages)
	}{
		{"virtualnode is away", virtualnodeAway},
		{"servers that answer", answersKeepNodesReady},
		{"Nodes are deleted", nodesDeleted},
		{"a lower cluster is restored", lowerRestored},
	} {
		if !t.Run(story.name, func(t *testing.T) {
			o := &outages{world: newWorld(t, l)}
			o.begin()
			story.tell(o)
			o.nothingChanged()
		}) {
			return // The next would find a broken lab.
		}
	}
}

// evicted is how long it takes until Kubernetes has evicted the pods of a dead node: the grace, the toleration, and some more.
func evicted() time.Duration {
	if lab.Chaos() {
		return time.Hour
	}
	return 25 * time.Second
}

// outages is a world with a Deployment on each lower cluster, and its pods as they were, above and below.
type outages struct {
	*world
	above map[types.UID]bool
	below [3]map[types.UID]types.UID
}

func (o *outages) begin() {
	o.Helper()
	o.above = map[types.UID]bool{}
	for k := 1; k <= 3; k++ {
		name := fmt.Sprint("web-", k)
		o.workload(name, o.lab.LowerName(k), 2)
	}
	for k := 1; k <= 3; k++ {
		name := fmt.Sprint("web-", k)
		maps.Copy(o.above, o.replicas(name, o.lab.LowerName(k), 2))
		o.eventually(func() error { return o.tolerates(name, nil) })
	}
	o.below = o.copies()
}

// tolerates is world.tolerates for whatever time pods tolerate a node that is not ready.
func (o *outages) tolerates(name string, _ *int64) error {
	for _, pod := range o.world.above(name) {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
			return t.Key == corev1.TaintNodeUnreachable && t.TolerationSeconds == nil
		}) {
			return fmt.Errorf("pod %s has tolerations %v", pod.Name, pod.Spec.Tolerations)
		}
	}
	return nil
}

// copies are the lower pods by the UIDs of the upper ones, by cluster.
func (o *outages) copies() (found [3]map[types.UID]types.UID) {
	o.Helper()
	for k := 1; k <= 3; k++ {
		found[k-1] = o.world.below(fmt.Sprint("web-", k), k)
	}
	return found
}

// nothingChanged waits until everything is well again, and fails the test for every pod that is another than at the beginning.
func (o *outages) nothingChanged() {
	o.Helper()
	begin := time.Now()
	lab.Eventually(o.T, lostPatience, func() error {
		return readyAgain(o.world, o.lab.LowerName(1), o.lab.LowerName(2), o.lab.LowerName(3))
	})
	now := map[types.UID]bool{}
	for k := 1; k <= 3; k++ {
		maps.Copy(now, o.replicas(fmt.Sprint("web-", k), o.lab.LowerName(k), 2))
	}
	o.Logf("everything is well %s later", time.Since(begin).Round(100*time.Millisecond))
	o.same()
	if !maps.Equal(now, o.above) {
		o.Errorf("pods %v above, they were %v", now, o.above)
	}
}

// same fails the test for every pod that is another than at the beginning, or is on its way out.
func (o *outages) same() {
	o.Helper()
	for k := 1; k <= 3; k++ {
		for _, pod := range o.world.above(fmt.Sprint("web-", k)) {
			if !o.above[pod.UID] || pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
				o.Errorf("pod %s: %s %s, deleted %v, was there %v", pod.Name, pod.Status.Phase, pod.Status.Reason, pod.DeletionTimestamp, o.above[pod.UID])
			}
		}
	}
	for k, found := range o.copies() {
		if !maps.Equal(found, o.below[k]) {
			o.Errorf("pods %v in %s, they were %v", found, o.lab.LowerName(k+1), o.below[k])
		}
	}
}

// lasts looks on for as long as pods of a dead node would have.
func (o *outages) lasts(still func() error) {
	o.Helper()
	begin := time.Now()
	lab.Eventually(o.T, evicted()+patience, func() error {
		if err := still(); err != nil {
			o.Fatal(err)
		}
		if left := evicted() - time.Since(begin); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	o.same()
}

// virtualnode is stopped, as if it had no processor, and killed after that: for longer than any pod tolerates by default.
func virtualnodeAway(o *outages) {
	process := o.lab.Process(lab.PartVirtualNode)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		o.Fatal(err)
	}
	unknown := func(node *corev1.Node) error {
		if c := nodeCondition(node, corev1.NodeReady); c.Status != corev1.ConditionUnknown {
			return fmt.Errorf("node %s is Ready=%s", node.Name, c.Status)
		}
		return outlivedTaint(node, corev1.TaintNodeUnreachable, 0)
	}
	for k := 1; k <= 3; k++ {
		o.node(o.lab.LowerName(k), unknown)
	}
	process.Kill()
	o.lasts(func() error { return nil })
	if err := process.Restart(o.Context()); err != nil {
		o.Fatal(err)
	}
}

// revoked is a kubeconfig with a token that nobody takes.
func revoked(kubeconfig []byte) []byte {
	return regexp.MustCompile(`token: .*`).ReplaceAll(kubeconfig, []byte("token: revoked"))
}

// All nodes of one cluster are cordoned, another takes no token any more, and behind the kubeconfig of the third is the first.
func answersKeepNodesReady(o *outages) {
	cordon := func(is bool) {
		for i := 1; i <= 2; i++ {
			patch(o.world, o.lower(1), "nodes", o.lab.NodeName(1, i), fmt.Sprintf(`{"spec":{"unschedulable":%v}}`, is))
		}
	}
	first, _ := o.kubeconfig(1)
	second, writeSecond := o.kubeconfig(2)
	third, writeThird := o.kubeconfig(3)
	cordon(true)
	writeSecond(revoked(second))
	writeThird(first)
	why := []string{"", "NoUsableNodes", "CredentialsExpired", "LowerChanged"}
	for k := 1; k <= 3; k++ {
		o.Logf("%s: %s", o.lab.LowerName(k), o.nodeUsable(o.lab.LowerName(k), why[k]).Message)
	}
	begin := time.Now()
	o.lasts(func() error {
		for k := 1; k <= 3; k++ {
			node, err := o.upper.CoreV1().Nodes().Get(o.Context(), o.lab.LowerName(k), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if c := nodeCondition(node, corev1.NodeReady); c.Status != corev1.ConditionTrue && time.Since(begin) > time.Second {
				return fmt.Errorf("node %s is Ready=%s %s: %s", node.Name, c.Status, c.Reason, c.Message)
			}
		}
		return nil
	})
	cordon(false)
	writeSecond(second)
	writeThird(third)
}

// A Node that somebody deletes is back at once with its cordon and what others gave it, before its pods are collected.
func nodesDeleted(o *outages) {
	name := o.lab.LowerName(1)
	o.kubectl("cordon", name)
	o.kubectl("label", "node", name, "example.com/mine=yes")
	o.kubectl("taint", "node", name, keys.VirtualTaint+"-", "--as=system:serviceaccount:tessera-system:tessera-virtualnode")
	o.node(name, func(node *corev1.Node) error {
		for _, taint := range node.Spec.Taints {
			if taint.Key == keys.VirtualTaint {
				return nil
			}
		}
		return errors.New("our taint is missing")
	})
	old, err := o.upper.CoreV1().Nodes().Get(o.Context(), name, metav1.GetOptions{})
	if err != nil {
		o.Fatal(err)
	}
	if err := o.upper.CoreV1().Nodes().Delete(o.Context(), name, metav1.DeleteOptions{}); err != nil {
		o.Fatal(err)
	}
	begin := time.Now()
	node := o.node(name, func(node *corev1.Node) error {
		if node.UID == old.UID {
			return errors.New("it is the old one")
		}
		return nil
	})
	o.Logf("the Node is back after %s", time.Since(begin).Round(10*time.Millisecond))
	if !node.Spec.Unschedulable || node.Labels["example.com/mine"] != "yes" || node.Labels[keys.Cluster] != name {
		o.Errorf("it came back with labels %v, cordoned %v", node.Labels, node.Spec.Unschedulable)
	}
	o.lasts(func() error {
		_, err := o.upper.CoreV1().Nodes().Get(o.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errors.New("the Node has gone")
		}
		return err
	})
	o.kubectl("uncordon", name)
}

// nodeUsable waits until the virtual node says why no new pods may come, by its condition and its taint, and goes on being Ready.
func (w *world) nodeUsable(name, reason string) corev1.NodeCondition {
	w.Helper()
	var last corev1.NodeCondition
	w.node(name, func(node *corev1.Node) error {
		if last = nodeCondition(node, keys.Usable); last.Status != corev1.ConditionFalse || last.Reason != reason {
			return fmt.Errorf("node %s: usable %s %s: %s", name, last.Status, last.Reason, last.Message)
		}
		if ready := nodeCondition(node, corev1.NodeReady); ready.Status != corev1.ConditionTrue {
			return fmt.Errorf("node %s: ready %s %s: %s", name, ready.Status, ready.Reason, ready.Message)
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == keys.UnusableTaint {
				return nil
			}
		}
		return fmt.Errorf("node %s has taints %v", name, node.Spec.Taints)
	})
	return last
}
