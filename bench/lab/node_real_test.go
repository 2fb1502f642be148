package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// Nothing of a real node outlives the lab: neither when it is stopped nor, once the next one has started, when it is killed.
func TestRealNodeLeavesNothing(t *testing.T) {
	NeedReal(t)
	dir := t.TempDir()
	killed := startCommand(t, "up", "--dir="+dir, "--lower=1", "--real-node", "--parts=none", "--upper-nodes=0")
	killed.says(t, "stop: ")
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-killed.done
	Eventually(t, patience, func() error { return left(dir, killed.cmd.Process.Pid, "processes") })

	l, err := Start(t.Context(), Options{Lower: 1, RealNodes: 1, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	for _, what := range []string{"bridge", "cgroups"} {
		if err := left(dir, killed.cmd.Process.Pid, what); err != nil {
			t.Errorf("after the start of the next one: %v", err)
		}
	}
	runsReally(t, l)
	l.Stop()
	for _, what := range []string{"processes", "bridge", "cgroups"} {
		if err := left(l.Dir(), os.Getpid(), what); err != nil {
			t.Errorf("after the stop: %v", err)
		}
	}
}

// runsReally runs a pod on the real node, and a command in it: the API server reaches the kubelet.
func runsReally(t *testing.T, l *Lab) {
	t.Helper()
	client, ns := namespace(t, l, 1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "main", Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: []string{"until=/go", "wait"},
	}}}}
	if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 3*patience, func() error {
		_, err := l.Kubectl(t.Context(), "--kubeconfig="+l.LowerKubeconfig(1), "exec", "--namespace="+ns, "p", "--", "/payload", "append=/go:now")
		return err
	})
}

// left is an error that lists what there still is of the real node of a lab's process.
func left(dir string, pid int, what string) error {
	patterns := map[string][]string{
		"processes": {"/proc/[0-9]*/cmdline"}, "watch": {"/proc/[0-9]*/cmdline"}, "bridge": {fmt.Sprintf("/sys/class/net/ts%d-*", pid)},
		"cgroups": {fmt.Sprintf("/sys/fs/cgroup/ts%d-*", pid), fmt.Sprintf("/sys/fs/cgroup/*/ts%d-*", pid)}, // of version 2 and 1
	}[what]
	var found, rest []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		found = append(found, paths...)
	}
	for _, path := range found {
		line, _ := os.ReadFile(path) // it may have ended meanwhile
		switch {
		case what == "processes" && !strings.Contains(string(line), dir+"/"):
		case what == "watch" && !strings.Contains(string(line), fmt.Sprintf("ts%d-", pid)):
		default:
			rest = append(rest, path)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("%s are left: %v", what, rest)
	}
	return nil
}
