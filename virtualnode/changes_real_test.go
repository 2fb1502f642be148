package virtualnode_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// A running container gets more CPU without a restart: its cgroup has it, and the status above says so. For what the lower node
// cannot give now its kubelet lets the pod wait, and that shows above, too.
func TestRealResize(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits[corev1.ResourceCPU] = resource.MustParse("200m")
	}))
	w.create(w.pod("neighbour", 1, doing("wait")))
	w.becomes(w.upper, "neighbour", "Ready", isReady)
	before := w.becomes(w.upper, "p", "Ready", isReady).Status.ContainerStatuses[0]
	uid := w.get(w.lower(1), "p").UID
	if got := quota(w, uid); got != "20000" {
		t.Fatalf("before: %s us of CPU in 100 ms", got)
	}
	resize := func(request, limit string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q},"limits":{"cpu":%q}}}]}}`, request, limit)
		_, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "resize")
		if err != nil {
			t.Fatal(err)
		}
	}
	resize("150m", "400m")
	after := w.becomes(w.upper, "p", "resized", func(p *corev1.Pod) bool {
		r := p.Status.ContainerStatuses[0].Resources
		return r != nil && r.Limits.Cpu().String() == "400m" && r.Requests.Cpu().String() == "150m"
	}).Status.ContainerStatuses[0]
	if got := quota(w, uid); got != "40000" {
		t.Errorf("after: %s us of CPU in 100 ms", got)
	}
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
	node, err := w.lower(1).CoreV1().Nodes().Get(t.Context(), w.lab.NodeName(1, 1), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := node.Status.Allocatable.Cpu().String() // so much that the neighbour would have nothing
	resize(all, all)
	w.becomes(w.upper, "p", "told to wait", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, corev1.PodResizePending)
		return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonDeferred && p.Status.ContainerStatuses[0].RestartCount == 0
	})
}

// quota is the CPU time in 100 ms that a pod's cgroup allows, in microseconds.
func quota(w *world, uid types.UID) string {
	w.Helper()
	for _, group := range cgroups(w, uid) {
		for _, name := range []string{"cpu.cfs_quota_us", "cpu.max"} {
			if data, err := os.ReadFile(filepath.Join(group, name)); err == nil {
				return strings.Fields(string(data))[0]
			}
		}
	}
	return fmt.Sprintf("no limit in %v", cgroups(w, uid))
}

// kubectl debug above: the container runs below, and how it ended shows above.
func TestRealEphemeralContainer(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait")))
	w.becomes(w.upper, "p", "Running", running)
	patch := fmt.Appendf(nil, `{"spec":{"ephemeralContainers":[{"name":"debug","image":%q,"imagePullPolicy":"Never","targetContainerName":"main",`+
		`"args":["append=/note:seen","report=/note","exit=6"]}]}}`, realnode.Image)
	if _, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "ephemeralcontainers"); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.upper, "p", "debugged", func(p *corev1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil && s[0].State.Terminated.ExitCode == 6 && s[0].State.Terminated.Message == "seen\n"
	})
}
