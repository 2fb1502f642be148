package extender_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// TestFaults stops, kills and cuts off things in a lab of its own. Every case ends with the lab whole again.
func TestFaults(t *testing.T) {
	l := startLab(t, lab.Options{
		Lower: 2, Nodes: 4, UpperNodes: 2, Parts: path,
		Config: map[string]map[string]any{lab.PartExtender: {"maxViewAge": "6s"}},
	})
	upper := client(t, l.Upper())
	newNamespace(t, upper, "ordinary", false)
	newNamespace(t, upper, "ours", true)
	f := &faults{lab: l, upper: upper}
	t.Run("extender stopped", f.extenderStopped)
	t.Run("extender dead", f.extenderDead)
	t.Run("lower cluster silent", f.lowerSilent)
	t.Run("kubeconfig broken", f.kubeconfigBroken)
	t.Run("lower cluster unreachable from the start", f.lowerUnreachable)
	t.Run("room that appears is used", f.roomAppears)
}

type faults struct {
	lab   *lab.Lab
	upper kubernetes.Interface
	made  int
}

// pods creates n pods of 1 CPU.
func (f *faults) pods(t *testing.T, namespace string, n int) []string {
	t.Helper()
	var names []string
	for range n {
		f.made++
		name := fmt.Sprintf("p%d", f.made)
		if err := create(t.Context(), f.upper, namespace, name, 1); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func (f *faults) allRun(t *testing.T, namespace string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		pods, err := f.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		return runs(t.Context(), f.upper, namespace, len(pods.Items))
	})
}

// ordinaryWait creates ordinary pods one after the other and prints how long each waited for its node.
func (f *faults) ordinaryWait(t *testing.T, what string) {
	t.Helper()
	var waits []time.Duration
	for range 5 {
		started := time.Now()
		name := f.pods(t, "ordinary", 1)[0]
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), f.upper, "ordinary", name) })
		waits = append(waits, time.Since(started).Round(time.Millisecond))
	}
	slices.Sort(waits)
	t.Logf("%s: ordinary pods waited %v for their node (longest %v)", what, waits, waits[len(waits)-1])
}

func bound(ctx context.Context, c kubernetes.Interface, namespace, name string) error {
	pod, err := c.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		return fmt.Errorf("%s has no node: %v", name, pod.Status.Conditions)
	}
	return nil
}

func (f *faults) extenderStopped(t *testing.T) {
	f.pods(t, "ours", 2)
	f.allRun(t, "ours")
	f.ordinaryWait(t, "extender well")
	process := f.lab.Process(lab.PartExtender)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.pods(t, "ours", 5)
	f.ordinaryWait(t, "extender stopped, 5 of Tessera's pods waiting")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.allRun(t, "ours")
}

func (f *faults) extenderDead(t *testing.T) {
	process := f.lab.Process(lab.PartExtender)
	process.Kill()
	names := f.pods(t, "ours", 5)
	f.ordinaryWait(t, "extender dead, 5 of Tessera's pods waiting")
	// The marker has quantity 0. That kube-scheduler asks the extender all the same is what everything rests on: to be
	// looked at again at every upgrade of Kubernetes.
	for _, name := range names {
		if bound(t.Context(), f.upper, "ours", name) == nil {
			t.Errorf("%s has a node although no extender could be asked", name)
		}
	}
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.allRun(t, "ours")
}

// lowerSilent stops a lower API server: its cluster is refused once its view is too old, the other goes on.
func (f *faults) lowerSilent(t *testing.T) {
	process := f.lab.Process("lower-2/apiserver")
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error { return f.cluster(t.Context(), "lower-2", func(c cluster) bool { return c.Stale }) })
	for _, name := range f.pods(t, "ours", 3) {
		lab.Eventually(t, 20*time.Second, func() error { return bound(t.Context(), f.upper, "ours", name) })
		pod, err := f.upper.CoreV1().Pods("ours").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if pod.Spec.NodeName != "lower-1" {
			t.Errorf("%s went to %s", name, pod.Spec.NodeName)
		}
	}
	f.ordinaryWait(t, "a lower cluster silent")
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error { return f.cluster(t.Context(), "lower-2", func(c cluster) bool { return !c.Stale }) })
	f.allRun(t, "ours")
}

func (f *faults) kubeconfigBroken(t *testing.T) {
	f.joins(t, "broken", "this: [is no kubeconfig", func(c cluster) bool { return c.Error != "" && !c.Synced })
}

func (f *faults) lowerUnreachable(t *testing.T) {
	f.joins(t, "nowhere", `{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],
		clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: x, user: {token: secret}}]}`,
		func(c cluster) bool { return c.Error != "" && !c.Synced })
}

// joins puts a file of a bad cluster beside the good ones: it is told about, and the others work on.
func (f *faults) joins(t *testing.T, name, text string, want func(cluster) bool) {
	t.Helper()
	file := filepath.Join(f.lab.Dir(), "clusters", name+".kubeconfig")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error { return f.cluster(t.Context(), name, want) })
	f.pods(t, "ours", 1)
	f.allRun(t, "ours")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error {
		if f.cluster(t.Context(), name, func(cluster) bool { return true }) == nil {
			return fmt.Errorf("%s is still listed", name)
		}
		return nil
	})
}

// roomAppears: a pod that fits nowhere runs soon after a lower pod that took the room has gone.
func (f *faults) roomAppears(t *testing.T) {
	f.clear(t, "ours")
	lower := client(t, f.lab.Lower(1))
	newNamespace(t, lower, "foreign", false)
	var blockers []string
	for k := range 2 {
		for i := range 4 {
			blockers = append(blockers, fmt.Sprintf("block-%d-%d", k+1, i+1))
		}
	}
	for i, name := range blockers {
		c := client(t, f.lab.Lower(i/4+1))
		newNamespace(t, c, "foreign", false)
		if err := create(t.Context(), c, "foreign", name, 8); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 20*time.Second, func() error { return bound(t.Context(), c, "foreign", name) })
	}
	if err := create(t.Context(), f.upper, "ours", "large", 12); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error {
		pod, err := f.upper.CoreV1().Pods("ours").Get(t.Context(), "large", metav1.GetOptions{})
		if err == nil && !slices.ContainsFunc(pod.Status.Conditions, refused) {
			err = fmt.Errorf("not refused yet: %v", pod.Status.Conditions)
		}
		return err
	})
	started := time.Now()
	if err := lower.CoreV1().Pods("foreign").Delete(t.Context(), "block-1-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, func() error { return bound(t.Context(), f.upper, "ours", "large") })
	t.Logf("the pod had its node %v after room was made below", time.Since(started).Round(time.Millisecond))
	f.allRun(t, "ours")
}

// clear deletes the pods of a namespace and waits until they have gone.
func (f *faults) clear(t *testing.T, namespace string) {
	t.Helper()
	if err := f.upper.CoreV1().Pods(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		pods, err := f.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are still there", len(pods.Items))
		}
		return err
	})
}

func refused(c corev1.PodCondition) bool {
	return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
}

// cluster is what the tests read of /debug/clusters.
type cluster struct {
	Name, Error   string
	Synced, Stale bool
}

// cluster says as an error that a cluster is not as wanted.
func (f *faults) cluster(ctx context.Context, name string, want func(cluster) bool) error {
	var answer struct{ Clusters []cluster }
	if err := get(ctx, f.lab.ExtenderURL()+"/debug/clusters", &answer); err != nil {
		return err
	}
	for _, c := range answer.Clusters {
		if c.Name == name && want(c) {
			return nil
		}
	}
	return fmt.Errorf("%s is not as wanted: %+v", name, answer.Clusters)
}
