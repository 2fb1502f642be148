package virtualnode_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// own starts a lab for a test that breaks things, with virtualnode alone where the options name no parts.
func own(t *testing.T, options lab.Options) *lab.Lab {
	t.Helper()
	lab.Need(t)
	options.Log = os.Stderr
	if options.Parts == nil {
		options.Parts = []string{lab.PartVirtualNode}
	}
	l, err := lab.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

// census records which pods ever existed below, by the name of their upper pod.
type census struct {
	mu   sync.Mutex
	seen map[string]map[types.UID]bool
}

// take watches the lower pods of a namespace until the context ends; a watch that ends before is taken up where it was.
func (c *census) take(ctx context.Context, t *testing.T, w *world, k int) {
	t.Helper()
	pods := w.lower(k).CoreV1().Pods(w.ns)
	now, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, now.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return pods.Watch(ctx, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for event := range watcher.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok {
				c.mu.Lock()
				if c.seen[pod.Name] == nil {
					c.seen[pod.Name] = map[types.UID]bool{}
				}
				c.seen[pod.Name][pod.UID] = true
				c.mu.Unlock()
			}
		}
	}()
}

// kill -9 during 50 creations neither loses nor doubles a pod, nor does it make the node NotReady.
func TestKillDuringCreations(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, Nodes: 4, UpperNodes: 1})
	w := newWorld(t, l)
	counted := &census{seen: map[string]map[types.UID]bool{}}
	counted.take(t.Context(), t, w, 1)
	part := l.Process(lab.PartVirtualNode)
	for i := range 50 {
		w.create(w.pod(fmt.Sprint("p-", i), 1))
		if i%20 == 10 {
			part.Kill()
			go func() { _ = part.Restart(context.WithoutCancel(t.Context())) }() // The pods below tell whether it runs.
		}
	}
	begin := time.Now()
	lab.Eventually(t, 2*patience, func() error {
		pods, err := w.upper.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		count := 0
		for i := range pods.Items {
			if running(&pods.Items[i]) {
				count++
			}
		}
		if count != 50 || len(pods.Items) != 50 {
			return fmt.Errorf("%d of %d pods are running, want 50", count, len(pods.Items))
		}
		return nil
	})
	t.Logf("50 pods were running %s after the last was created", time.Since(begin).Round(10*time.Millisecond))
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if len(counted.seen) != 50 {
		t.Errorf("%d names were seen below, want 50", len(counted.seen))
	}
	for name, uids := range counted.seen {
		if len(uids) != 1 {
			t.Errorf("%s existed %d times below", name, len(uids))
		}
	}
}

// What happened above while nobody looked is made up for at the next start.
func TestRestartMakesUpForWhatItMissed(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, Nodes: 2, UpperNodes: 1, Config: map[string]map[string]any{
		lab.PartVirtualNode: {"orphanGrace": "1s"}, // A pod deleted by force while nobody looked is an orphan.
	}})
	w := newWorld(t, l)
	for _, name := range []string{"stays", "deleted", "forced"} {
		w.create(w.pod(name, 1))
		w.becomes(w.upper, name, "Running", running)
	}
	stays := w.get(w.lower(1), "stays")
	part := l.Process(lab.PartVirtualNode)
	part.Kill()
	now := int64(0)
	pods := w.upper.CoreV1().Pods(w.ns)
	if err := pods.Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), "forced", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("new", 1))
	staysReady := w.staysReady(l.LowerName(1))
	if err := part.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.upper, "deleted")
	w.vanishes(w.lower(1), "deleted")
	w.vanishes(w.lower(1), "forced")
	w.becomes(w.upper, "new", "Running", running)
	if again := w.get(w.lower(1), "stays"); again.UID != stays.UID || again.DeletionTimestamp != nil {
		t.Error("the pod that nobody touched was replaced or deleted")
	}
	staysReady()
}

// Clusters come and go while the process runs; a kubeconfig that cannot be used disturbs nobody else.
func TestClustersComeAndGo(t *testing.T) {
	t.Parallel()
	const node2 = corev1.LabelHostname + "=lower-1-node-0002"
	l := own(t, lab.Options{Lower: 1, Nodes: 2, UpperNodes: 1, Config: map[string]map[string]any{lab.PartVirtualNode: {
		"perCluster": map[string]any{
			"lower-1": map[string]any{"nodes": strings.Replace(node2, "=", "!=", 1)}, "broken": map[string]any{"nodes": node2},
		},
	}}})
	w := newWorld(t, l)
	file := func(name string) string { return clusterFile(l, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(file(l.LowerName(1)))
	if err != nil {
		t.Fatal(err)
	}
	write("broken", "this is: [not a kubeconfig")
	if c := w.nodeReady("broken", corev1.ConditionFalse, "LowerUnreachable"); !strings.Contains(c.Message, "kubeconfig of this cluster cannot be used") {
		t.Errorf("the node says %q", c.Message)
	}
	w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)

	lines := strings.Split(string(good), "\n")
	for i, line := range lines {
		if key, _, ok := strings.Cut(line, "certificate-authority-data:"); ok {
			lines[i] = key + "certificate-authority-data: bm8gY2VydGlmaWNhdGU="
		}
	}
	write("broken", strings.Join(lines, "\n"))
	w.eventually(func() error {
		if c := w.nodeReady("broken", corev1.ConditionFalse, "LowerUnreachable"); !strings.Contains(c.Message, "certificate") {
			return fmt.Errorf("the node says %q", c.Message)
		}
		return nil
	})

	write("broken", string(good)) // Mended: a second virtual node on the same lower cluster.
	w.nodeReady("broken", corev1.ConditionTrue, "LowerAnswers")
	second := w.create(w.pod("second", 1, func(p *corev1.Pod) { p.Spec.NodeSelector[keys.Cluster] = "broken" }))
	w.becomes(w.upper, "second", "Running", running)
	if below := w.get(w.lower(1), "second"); below.Labels[keys.VirtualNode] != "broken" {
		t.Errorf("labels %v", below.Labels)
	}
	write("broken", "half a fi") // A file that breaks while its cluster runs stops nothing.
	w.create(w.pod("meanwhile", 1, func(p *corev1.Pod) { p.Spec.NodeSelector[keys.Cluster] = "broken" }))
	w.becomes(w.upper, "meanwhile", "Running", running)
	if err := os.Remove(file("broken")); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("third", 1))
	w.becomes(w.upper, "third", "Running", running)
	if still := w.get(w.lower(1), "second"); still.DeletionTimestamp != nil || still.Annotations[keys.UpperUID] != string(second.UID) {
		t.Error("the pod of the cluster that left was touched")
	}
}

// A Node that has the name of a cluster and is not ours is left alone.
func TestForeignNodeIsNotTouched(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "taken", Labels: map[string]string{"whose": "theirs"}}}
	if _, err := w.upper.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.upper.CoreV1().Nodes().Delete(context.Background(), "taken", metav1.DeleteOptions{}) })
	file := clusterFile(w.lab, "taken")
	if err := os.WriteFile(file, []byte("broken: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	w.eventually(func() error {
		log, err := os.ReadFile(w.lab.Process(lab.PartVirtualNode).LogFile())
		if err == nil && !strings.Contains(string(log), "node taken exists and is not a virtual node") {
			err = fmt.Errorf("the log does not say that the Node is not ours")
		}
		return err
	})
	after, err := w.upper.CoreV1().Nodes().Get(t.Context(), "taken", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.Labels[keys.Cluster] != "" || conditionReason(after) == "LowerUnreachable" {
		t.Errorf("the Node was written to: %v %+v", after.Labels, after.Status.Conditions)
	}
}

func conditionReason(node *corev1.Node) string {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Reason
		}
	}
	return ""
}
