package virtualnode_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tessera-k8s/tessera/internal/keys"
)

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

// Containers end, are restarted and are killed by probes: codes, counts and last words come up.
func TestRealContainersEnd(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	seconds := int64(30) // Enough for it to be running by then, also beside the others.
	w.create(w.pod("good", 1, never, doing("exit=0")))
	w.create(w.pod("bad", 1, never, doing("append=/note:goodbye", "report=/note", "exit=3")))
	w.create(w.pod("slow", 1, never, doing("wait", "exit=8"), func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds }))
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
	slow := w.becomes(w.upper, "slow", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end := ended(slow); slow.Status.Reason != "DeadlineExceeded" || end == nil || end.ExitCode != 8 {
		t.Errorf("its time was over: %s, %+v", slow.Status.Reason, end)
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

// What goes wrong again and again is told as a kubelet tells it: a container that crashes and crashes, one that takes more memory than it
// may, one that is not ready and then is.
func TestRealTrouble(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.patience *= 2 // The second restart comes after 10 s, the third after 20 more.
	w.create(w.pod("crashing", 1, doing("exit=4")))
	w.create(w.pod("hungry", 1, doing("sleep=1s", "hold=256", "wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("64Mi")
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = resource.MustParse("32Mi")
	}))
	w.create(w.pod("late", 1, doing("sleep=8s", "serve=8080", "wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].ReadinessProbe = probe(8080)
		p.Spec.Containers[0].ReadinessProbe.FailureThreshold = 1
	}))
	w.create(w.pod("never-started", 1, doing("wait", "exit=5"), func(p *corev1.Pod) {
		p.Spec.Containers[0].StartupProbe = probe(8080)
		p.Spec.Containers[0].StartupProbe.FailureThreshold = 2
	}))
	only := func(p *corev1.Pod) corev1.ContainerStatus {
		if len(p.Status.ContainerStatuses) == 0 {
			return corev1.ContainerStatus{}
		}
		return p.Status.ContainerStatuses[0]
	}
	w.becomes(w.upper, "late", "running and not ready", func(p *corev1.Pod) bool { return running(p) && !isReady(p) })
	w.saw("late", "Unhealthy")
	w.becomes(w.upper, "late", "ready", isReady)
	hungry := w.becomes(w.upper, "hungry", "killed for its memory", func(p *corev1.Pod) bool {
		return only(p).LastTerminationState.Terminated != nil && only(p).RestartCount > 0
	})
	if end := only(hungry).LastTerminationState.Terminated; end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("it ended as %+v", end)
	}
	w.becomes(w.upper, "never-started", "restarted", func(p *corev1.Pod) bool {
		last := only(p).LastTerminationState.Terminated
		return only(p).RestartCount > 0 && last != nil && last.ExitCode == 5
	})
	crashing := w.becomes(w.upper, "crashing", "in CrashLoopBackOff", func(p *corev1.Pod) bool {
		waiting := only(p).State.Waiting
		return waiting != nil && waiting.Reason == "CrashLoopBackOff" && only(p).RestartCount >= 2
	})
	if last := only(crashing).LastTerminationState.Terminated; last == nil || last.ExitCode != 4 || !strings.Contains(only(crashing).State.Waiting.Message, "back-off") {
		t.Errorf("it says %+v", only(crashing))
	}
	w.saw("crashing", "BackOff")
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

// What a process learns of its pod is what is true above.
func TestRealDownwardAPI(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	upper := w.create(w.pod("p", 1, never, doing("append=/note:$(NAMESPACE) $(NAME) $(ID)", "report=/note", "exit=0"), func(p *corev1.Pod) {
		for name, path := range map[string]string{"NAMESPACE": "metadata.namespace", "NAME": "metadata.name", "ID": "metadata.uid"} {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{
				Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}},
			})
		}
	}))
	pod := w.becomes(w.upper, "p", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if end, want := ended(pod), fmt.Sprintln(w.ns, "p", upper.UID); end == nil || end.Message != want {
		t.Errorf("it ended as %+v, want the message %q", end, want)
	}
}

// A pod that waits for its image says so above, with the kubelet's words.
func TestRealImageIsMissing(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait"), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "lab.tessera.sh/no-such:1" }))
	w.becomes(w.upper, "p", "waiting for its image", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return pending(p) && len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "ErrImageNeverPull"
	})
}

// What a lower kubelet does not admit fails above, with the kubelet's reason. kube-scheduler knows nothing of these rules.
func TestRealRefusedByKubelet(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait"), func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}}}
	}))
	pod := w.becomes(w.upper, "p", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if pod.Status.Reason != "SysctlForbidden" || !strings.Contains(pod.Status.Message, "net.core.somaxconn") {
		t.Errorf("%s: %s", pod.Status.Reason, pod.Status.Message)
	}
}
