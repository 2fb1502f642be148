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

// A running container gets more CPU and memory without a restart: its cgroup has it, and the status above says so. For what the lower
// node cannot give now its kubelet lets the pod wait, and that shows above, too.
func TestRealResize(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait"), func(p *corev1.Pod) {
		limits := p.Spec.Containers[0].Resources.Limits
		limits[corev1.ResourceCPU], limits[corev1.ResourceMemory] = resource.MustParse("200m"), resource.MustParse("64Mi")
	}))
	w.create(w.pod("neighbour", 1, doing("wait")))
	w.becomes(w.upper, "neighbour", "Ready", isReady)
	before := w.becomes(w.upper, "p", "Ready", isReady).Status.ContainerStatuses[0]
	uid := w.get(w.lower(1), "p").UID
	allowed := func(cpu, memory string) {
		t.Helper()
		if got := [2]string{quota(w, uid), memoryLimit(w, uid)}; got != [2]string{cpu, memory} {
			t.Errorf("its cgroup has %v us of CPU in 100 ms and bytes of memory, want %s and %s", got, cpu, memory)
		}
	}
	allowed("20000", "67108864")
	resize := func(request, limit, memory string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q},"limits":{"cpu":%q,"memory":%q}}}]}}`,
			request, limit, memory)
		_, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "resize")
		if err != nil {
			t.Fatal(err)
		}
	}
	resize("150m", "400m", "96Mi")
	after := w.becomes(w.upper, "p", "resized", func(p *corev1.Pod) bool {
		r := p.Status.ContainerStatuses[0].Resources
		return r != nil && r.Limits.Cpu().String() == "400m" && r.Requests.Cpu().String() == "150m" && r.Limits.Memory().String() == "96Mi"
	}).Status.ContainerStatuses[0]
	allowed("40000", "100663296")
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
	node, err := w.lower(1).CoreV1().Nodes().Get(t.Context(), w.lab.NodeName(1, 1), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := node.Status.Allocatable.Cpu().String() // so much that the neighbour would have nothing
	resize(all, all, "96Mi")
	w.becomes(w.upper, "p", "told to wait", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, corev1.PodResizePending)
		return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonDeferred && p.Status.ContainerStatuses[0].RestartCount == 0
	})
}

// quota is the CPU time in 100 ms that a pod's cgroup allows, in microseconds.
func quota(w *world, uid types.UID) string {
	w.Helper()
	return limitOf(w, uid, "cpu.cfs_quota_us", "cpu.max")
}

// memoryLimit is how many bytes a pod's cgroup allows.
func memoryLimit(w *world, uid types.UID) string {
	w.Helper()
	return limitOf(w, uid, "memory.limit_in_bytes", "memory.max")
}

// limitOf is the first word of the first of those files that a pod's cgroup has.
func limitOf(w *world, uid types.UID, names ...string) string {
	w.Helper()
	for _, group := range cgroups(w, uid) {
		for _, name := range names {
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
