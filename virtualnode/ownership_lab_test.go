package virtualnode_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// stranger is a virtualnode of another upper cluster, the lab's lower-2, with virtual nodes that all lead to lower-1.
type stranger struct {
	*world
	config string
	url    string
	cancel context.CancelFunc
	done   chan struct{}
}

// newStranger starts one with more lines in its configuration.
func newStranger(t *testing.T, l *lab.Lab, more string, virtualNodes ...string) *stranger {
	t.Helper()
	dir := t.TempDir()
	kubeconfig, err := os.ReadFile(clusterFile(l, l.LowerName(1)))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := &stranger{
		world:  &world{T: t, lab: l, upper: client(t, l.Lower(2))},
		config: filepath.Join(dir, "virtualnode.yaml"), url: fmt.Sprintf("http://127.0.0.1:%d/readyz", port),
	}
	text := fmt.Sprintf("insecureLoopback: true\ninsecurePort: %d\nupperKubeconfig: %s\nclusters: %s\n%s", port, l.LowerKubeconfig(2), dir, more)
	files := map[string][]byte{"virtualnode.yaml": []byte(text)}
	for _, name := range virtualNodes {
		files[name+".kubeconfig"] = kubeconfig
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

// start runs the process and waits until it serves both virtual nodes.
func (s *stranger) start() {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, s.lab.Tessera(), "virtualnode", "--config", s.config)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		cancel()
		s.Fatal(err)
	}
	s.cancel, s.done = cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		_ = command.Wait() // It is killed.
	}(s.done)
	s.eventually(func() error {
		request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the second virtualnode answers %s", answer.Status)
		}
		return nil
	})
}

// kill ends the process as kill -9 does.
func (s *stranger) kill() {
	s.cancel()
	<-s.done
}

// optedIn makes a namespace of that name in an upper cluster, and waits until pods can be created in it.
func (w *world) optedIn(name string, labels map[string]string) {
	w.Helper()
	w.ns = name
	all := map[string]string{keys.Enabled: "true"}
	maps.Copy(all, labels)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}}
	if _, err := w.upper.CoreV1().Namespaces().Create(w.Context(), namespace, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error {
		_, err := w.upper.CoreV1().ServiceAccounts(name).Get(w.Context(), "default", metav1.GetOptions{})
		return err
	})
}

func on(virtualNode string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{keys.Cluster: virtualNode} }
}

// versions are the resource versions of what is in a lower namespace, and of itself.
func versions(t *testing.T, lower kubernetes.Interface, namespace string) map[string]string {
	t.Helper()
	found := map[string]string{}
	itself, err := lower.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found["namespace"] = itself.ResourceVersion
	pods, err := lower.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		found[pod.Name+" "+string(pod.UID)] = pod.ResourceVersion
	}
	return found
}

// Two upper clusters, one of them with two virtual nodes, share a lower cluster and drain it: nobody touches what
// belongs to another, and a budget holds over a drain of two nodes.
func TestSharedLowerCluster(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 2, Nodes: 3, UpperNodes: 1})
	one := &world{T: t, lab: l, upper: client(t, l.Upper())}
	apart := fmt.Sprintf("perCluster: {left: {nodes: %[1]s=%[2]s}, right: {nodes: %[1]s!=%[2]s}}\n", corev1.LabelHostname, l.NodeName(1, 1))
	two := newStranger(t, l, apart, "left", "right")
	t.Run("owners", func(t *testing.T) { sharedNamespace(t, one, two) })
	two.kill()
	t.Run("clone", func(t *testing.T) { clonedUpper(t, one) })
	t.Run("budget", func(t *testing.T) { drainTwoNodes(t, one) })
}

// clonedUpper: the upper cluster was restored into a second one for a drill, and virtualnode started there, under the same
// identity. It writes nothing below, however often the real one restarts, until somebody says that it is to go on in its place.
func clonedUpper(t *testing.T, one *world) {
	const ns = "cloned"
	one.T = t
	name := one.lab.LowerName(1)
	one.optedIn(ns, nil)
	one.create(one.pod("a", 1))
	one.becomes(one.upper, "a", "Running", running)
	before := versions(t, one.lower(1), ns)
	system, err := one.upper.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	clone := newStranger(t, one.lab, fmt.Sprintf("identity: %s\n", system.UID), name)
	clone.optedIn(ns, nil)
	clone.nodeUsable(name, "IdentityTaken")
	clone.create(clone.pod("b", 1, on(name), func(p *corev1.Pod) { // Whatever the taint says.
		p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}))
	clone.becomes(clone.upper, "b", "bound", func(p *corev1.Pod) bool { return p.Spec.NodeName == name })

	process := one.lab.Process(lab.PartVirtualNode)
	process.Kill()
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.create(one.pod("c", 1))
	one.becomes(one.upper, "c", "Running", running)
	clone.nodeUsable(name, "IdentityTaken")
	after := versions(t, one.lower(1), ns)
	for what, version := range before {
		if after[what] != version {
			t.Errorf("%s went from version %s to %q while a clone was there", what, version, after[what])
		}
	}
	if len(after) != len(before)+1 {
		t.Errorf("below are %v, want one pod more than %v", after, before)
	}

	clone.accepts(name, one.lab.LowerKubeconfig(2))
	one.nodeUsable(name, "IdentityTaken")
	clone.becomes(clone.upper, "b", "Running", running)
	clone.kill()
	one.accepts(name, one.lab.UpperKubeconfig())
	one.nodeReady(name, corev1.ConditionTrue, "LowerAnswers")
}

// accepts says that the virtual node of one upper cluster is to go on in place of another's, once it knows of that one.
func (w *world) accepts(name, upperKubeconfig string) {
	w.Helper()
	w.eventually(func() error {
		node, err := w.upper.CoreV1().Nodes().Get(w.Context(), name, metav1.GetOptions{})
		if err != nil || nodeCondition(node, keys.Usable).Reason != "IdentityTaken" {
			return err
		}
		out, err := exec.CommandContext(w.Context(), w.lab.Tessera(), "clusters", "accept", name, "--upper-kubeconfig", upperKubeconfig).CombinedOutput()
		return fmt.Errorf("%s, %w, node %s: %s", out, err, name, nodeCondition(node, keys.Usable).Message)
	})
}

func sharedNamespace(t *testing.T, one *world, two *stranger) {
	const name, level = "story", "pod-security.kubernetes.io/enforce"
	one.T, two.T = t, t
	lower := one.lower(1)
	one.optedIn(name, map[string]string{level: "baseline"})
	two.optedIn(name, nil)
	one.create(one.pod("a", 1))
	one.becomes(one.upper, "a", "Running", running)

	two.create(two.pod("b", 1, on("left")))
	two.becomes(two.upper, "b", "refused: the namespace is another's", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Status == corev1.ConditionFalse && c.Reason == string(keys.NameConflict)
	})
	namespace, err := lower.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil || namespace.Labels[level] != "baseline" || namespace.Annotations[keys.UpperName] != name {
		t.Fatalf("namespace below %v %v, %v", namespace.Labels, namespace.Annotations, err)
	}
	open := []byte(`{"metadata":{"labels":{"` + keys.OpenTo + `":"any"}}}`)
	if _, err := lower.CoreV1().Namespaces().Patch(t.Context(), name, types.MergePatchType, open, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	two.create(two.pod("c", 1, on("right")))
	lab.Eventually(t, 2*patience, func() error { // The pauses between attempts have grown.
		pod, err := two.upper.CoreV1().Pods(name).Get(t.Context(), "b", metav1.GetOptions{})
		if err == nil && !running(pod) {
			err = fmt.Errorf("pod b is %s: %+v", pod.Status.Phase, pod.Status.Conditions)
		}
		return err
	})
	two.becomes(two.upper, "c", "Running", running)

	before := versions(t, lower, name)
	process := one.lab.Process(lab.PartVirtualNode)
	process.Kill()
	two.kill()
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.start()
	one.create(one.pod("after-one", 1))
	two.create(two.pod("after-left", 1, on("left")))
	two.create(two.pod("after-right", 1, on("right")))
	one.becomes(one.upper, "after-one", "Running", running)
	two.becomes(two.upper, "after-left", "Running", running)
	two.becomes(two.upper, "after-right", "Running", running)
	after := versions(t, lower, name)
	for what, version := range before {
		if after[what] != version {
			t.Errorf("%s went from version %s to %q over the restarts", what, version, after[what])
		}
	}
	goneAbove(t, one, two, name)
}

// goneAbove: the namespace below lives as long as somebody's pods are in it, and goes with the last.
func goneAbove(t *testing.T, one *world, two *stranger, name string) {
	t.Helper()
	lower := one.lower(1)
	if err := one.upper.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	one.vanishes(lower, "a")
	for _, pod := range []string{"b", "c", "after-left", "after-right"} {
		if got := two.get(lower, pod); got.DeletionTimestamp != nil {
			t.Errorf("pod %s of the second upper cluster is deleted", pod)
		}
	}
	if err := two.upper.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 2*patience, func() error {
		if _, err := lower.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the namespace is still below: %w", err)
		}
		return nil
	})
}
