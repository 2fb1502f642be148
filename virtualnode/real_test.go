package virtualnode_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/lab/realnode"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// realNode is the lab of the tests that want to see processes: a kubelet, containerd and runc play nothing.
var realNode = lab.NewShared(lab.Options{
	Lower: 1, RealNode: true, Parts: []string{lab.PartVirtualNode},
	Config: map[string]map[string]any{lab.PartVirtualNode: {"hint": "off"}},
})

// newRealWorld gives a test a namespace in that lab. The tests run side by side: most of their time they wait for a process.
func newRealWorld(t *testing.T) *world {
	t.Helper()
	lab.NeedReal(t)
	w := newWorld(t, realNode.Get(t))
	w.patience = time.Minute
	return w
}

// payload is a container that does these steps, see package payload.
func payload(name string, steps ...string) corev1.Container {
	return corev1.Container{Name: name, Image: realnode.Image, ImagePullPolicy: corev1.PullNever, Args: steps}
}

// doing makes the steps those of a pod's main container.
func doing(steps ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.Image, main.ImagePullPolicy, main.Args = realnode.Image, corev1.PullNever, steps
	}
}

// sharing gives all containers of a pod the folder /shared.
func sharing(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = mount
		}
	}
}

// probe asks a port once a second.
func probe(port int) *corev1.Probe {
	get := &corev1.HTTPGetAction{Port: intstr.FromInt(port)}
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}, PeriodSeconds: 1, FailureThreshold: 60}
}

// ended is the end of a pod's first container, nil before.
func ended(p *corev1.Pod) *corev1.ContainerStateTerminated {
	if len(p.Status.ContainerStatuses) == 0 {
		return nil
	}
	return p.Status.ContainerStatuses[0].State.Terminated
}

func isReady(p *corev1.Pod) bool {
	return running(p) && conditionOf(p.Status.Conditions, corev1.PodReady).Status == corev1.ConditionTrue
}

// cgroups are those of a lower pod, one a controller.
func cgroups(w *world, uid types.UID) []string {
	w.Helper()
	var all []string
	for _, hierarchy := range []string{"", "*/"} {
		for _, class := range []string{"", "*/"} {
			found, err := filepath.Glob("/sys/fs/cgroup/" + hierarchy + "ts*/kubepods/" + class + "pod" + string(uid))
			if err != nil {
				w.Fatal(err)
			}
			all = append(all, found...)
		}
	}
	return all
}

// processes are the ids of what runs of a lower pod, its sandbox included.
func processes(w *world, uid types.UID) []string {
	w.Helper()
	var ids []string
	for _, group := range cgroups(w, uid) {
		_ = filepath.WalkDir(group, func(path string, entry fs.DirEntry, _ error) error { // they come and go while one looks
			if entry != nil && entry.Name() == "cgroup.procs" {
				data, _ := os.ReadFile(path)
				ids = append(ids, strings.Fields(string(data))...)
			}
			return nil
		})
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// A kubelet's word on a pod comes up as it is, but for the addresses.
func TestRealPodRuns(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("sleep=2s", "serve=8080", "wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = probe(8080)
	}))
	upper := w.becomes(w.upper, "p", "Ready", isReady)
	below := w.get(w.lower(1), "p")
	status := upper.Status.ContainerStatuses
	if diff := cmp.Diff(below.Status.ContainerStatuses, status); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(status[0].ContainerID, "containerd://") || !strings.Contains(status[0].ImageID, "sha256:") || status[0].RestartCount != 0 {
		t.Errorf("container %+v", status[0])
	}
	if upper.Status.StartTime == nil || !upper.Status.StartTime.Equal(below.Status.StartTime) {
		t.Errorf("started at %v, below at %v", upper.Status.StartTime, below.Status.StartTime)
	}
	started := status[0].State.Running.StartedAt
	if ready := conditionOf(upper.Status.Conditions, corev1.PodReady).LastTransitionTime; ready.Sub(started.Time) < time.Second {
		t.Errorf("Ready at %s, but nothing answered for 2 s after %s", ready, started)
	}
	if upper.Status.PodIP != "" || upper.Annotations[keys.LowerIP] != below.Status.PodIP || below.Status.PodIP == "" {
		t.Errorf("address %q above, %q below, noted %q", upper.Status.PodIP, below.Status.PodIP, upper.Annotations[keys.LowerIP])
	}
	w.saw("p", "Started")
	if got := processes(w, below.UID); len(got) != 2 {
		t.Errorf("processes %v, want that of the container and that of the sandbox", got)
	}
}

// saw waits for an event of the lower kubelet on a pod above.
func (w *world) saw(pod, reason string) {
	w.Helper()
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(w.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			if e.Reason == reason && e.Source.Component == w.lab.LowerName(1)+"/kubelet" {
				return nil
			}
			seen = append(seen, e.Source.Component+" "+e.Reason)
		}
		return fmt.Errorf("no event %s, only %v", reason, seen)
	})
}

// Containers end, are restarted and are killed by probes: codes, counts and last words come up.
func TestRealContainersEnd(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("good", 1, never, doing("exit=0")))
	w.create(w.pod("bad", 1, never, doing("append=/note:goodbye", "report=/note", "exit=3")))
	w.create(w.pod("crashing", 1, doing("sleep=1s", "exit=4")))
	w.create(w.pod("hanging", 1, doing("wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].LivenessProbe = probe(8080)
		p.Spec.Containers[0].LivenessProbe.FailureThreshold = 1
	}))
	w.becomes(w.upper, "good", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	bad := w.becomes(w.upper, "bad", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end := ended(bad); end == nil || end.ExitCode != 3 || end.Message != "goodbye\n" || end.FinishedAt.IsZero() {
		t.Errorf("it ended as %+v", end)
	}
	restarted := func(code int32) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) == 1 && s[0].RestartCount > 0 && s[0].LastTerminationState.Terminated != nil &&
				s[0].LastTerminationState.Terminated.ExitCode == code
		}
	}
	w.becomes(w.upper, "crashing", "restarted", restarted(4))
	w.becomes(w.upper, "hanging", "restarted", restarted(0))
	w.saw("hanging", "Unhealthy")
}

// Init container, sidecar and main container come one after the other, and the sidecar ends last.
func TestRealContainersInOrder(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	side := payload("side", "append=/shared/order:side", "serve=8081", "wait", "exit=5")
	always := corev1.ContainerRestartPolicyAlways
	side.RestartPolicy, side.StartupProbe = &always, probe(8081)
	w.create(w.pod("p", 1, never, doing("append=/shared/order:main", "report=/shared/order", "exit=0"), func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{payload("first", "append=/shared/order:first"), side}
	}, sharing))
	upper := w.becomes(w.upper, "p", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	main := ended(upper)
	if main == nil || main.Message != "first\nside\nmain\n" {
		t.Fatalf("main ended as %+v", main)
	}
	inits := upper.Status.InitContainerStatuses
	if len(inits) != 2 || inits[0].State.Terminated == nil || inits[1].State.Terminated == nil {
		t.Fatalf("init containers %+v", inits)
	}
	if first, side := inits[0].State.Terminated, inits[1].State.Terminated; first.ExitCode != 0 || side.ExitCode != 5 || side.FinishedAt.Before(&main.FinishedAt) {
		t.Errorf("the first ended as %+v, the sidecar as %+v, main at %s", first, side, main.FinishedAt)
	}
}

// The kubelet may be restarted while pods run: nothing is restarted with it, and new pods run afterwards. It comes before the
// others, which run side by side.
func TestRealKubeletRestarts(t *testing.T) {
	w := newRealWorld(t)
	w.create(w.pod("before", 1, doing("serve=8080", "wait"), func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = probe(8080) }))
	before := w.becomes(w.upper, "before", "Ready", isReady).Status.ContainerStatuses[0]
	if err := w.lab.Process(w.lab.LowerName(1) + "/kubelet").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("after", 1, doing("wait")))
	w.becomes(w.upper, "after", "Ready", isReady)
	after := w.becomes(w.upper, "before", "Ready", isReady).Status.ContainerStatuses[0]
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
	w.gone("before")
}

// gone deletes a pod above and waits until nothing of it is left.
func (w *world) gone(name string) {
	w.Helper()
	below := w.get(w.lower(1), name)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	w.vanishes(w.upper, name)
	w.vanishes(w.lower(1), name)
	w.ends(below.UID)
}

// ends waits until nothing of a lower pod runs.
func (w *world) ends(uid types.UID) {
	w.Helper()
	w.eventually(func() error {
		if left := processes(w, uid); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}
