package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestParts runs all parts with the RBAC of the manifests, changes one's configuration, and stops and starts the extender.
func TestParts(t *testing.T) {
	l := ownLab(t, Options{Lower: 2, Nodes: 3, Parts: Parts, Config: map[string]map[string]any{PartExtender: {"logLevel": "debug"}}, Log: os.Stderr})
	client, ns := namespace(t, l, 0)
	patch := []byte(`{"metadata":{"labels":{"tessera.sh/enabled":"true"}}}`)
	if _, err := client.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	run := func(name string) {
		t.Helper()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podSpec("8")}
		if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, patience, phaseIs(client, ns, name, corev1.PodRunning))
	}
	run("first")
	url := l.ExtenderURL()
	if err := l.StopPart(PartExtender); err != nil {
		t.Fatal(err)
	}
	if err := l.StartPart(t.Context(), PartExtender); err != nil {
		t.Fatal(err)
	}
	if l.ExtenderURL() != url {
		t.Errorf("the extender was at %s and is now at %s", url, l.ExtenderURL())
	}
	run("second")
	config, err := os.ReadFile(filepath.Join(l.Dir(), "parts", "extender.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(config), "logLevel: debug") {
		t.Errorf("Options.Config is not in the extender's configuration:\n%s", config)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// TestLatePart starts the extender in a lab that began without it: the scheduler gets the entry then.
func TestLatePart(t *testing.T) {
	l := ownLab(t, Options{Lower: 1, Nodes: 1})
	if l.ExtenderURL() != "" {
		t.Errorf("extender URL %q before there is one", l.ExtenderURL())
	}
	if err := l.StartPart(t.Context(), PartExtender); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(l.Dir(), schedulerFile))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("https://127.0.0.1:%d/scheduler", l.partPorts(PartExtender).secure); !strings.Contains(string(config), want) {
		t.Errorf("the scheduler's configuration lacks %s:\n%s", want, config)
	}
}

// TestShortTimers lets a node fall silent: with short timers its pods are evicted within seconds. (If all nodes are silent,
// kube-controller-manager blames the network and evicts nothing.)
func TestShortTimers(t *testing.T) {
	l := ownLab(t, Options{Lower: 1, Nodes: 3, ShortTimers: true})
	client, ns := namespace(t, l, 1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: podSpec("1")}
	pod.Spec.NodeName = l.NodeName(1, 1)
	if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, phaseIs(client, ns, "p", corev1.PodRunning))
	patch := []byte(`{"metadata":{"annotations":{"lab.tessera.sh/silent":"true"}}}`)
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), l.NodeName(1, 1), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 2*patience, noPods(client, ns, ""))
}
