package virtualnode_test

import (
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// status patches the status of a pod, as its kubelet or a controller would.
func (w *world) status(client kubernetes.Interface, name, status string) {
	w.Helper()
	_, err := client.CoreV1().Pods(w.ns).Patch(w.Context(), name, types.StrategicMergePatchType,
		[]byte(`{"status":`+status+`}`), metav1.PatchOptions{}, "status")
	if err != nil {
		w.Fatal(err)
	}
}

// A pod is resized in place. What the lower cluster refuses shows above, and other changes come down all the same.
func TestResizeInPlace(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	w.create(w.pod("p", 1))
	w.becomes(lower, "p", "Running", running)
	// A kubelet that can resize says which resources a container has.
	w.status(lower, "p", `{"containerStatuses":[{"name":"main","resources":{"requests":{"cpu":"100m"}}}]}`)
	w.becomes(w.upper, "p", "resizable", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Resources != nil
	})
	resize := func(cpu string) {
		t.Helper()
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":%q}}}]}}`, cpu)
		if _, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "resize"); err != nil {
			t.Fatal(err)
		}
	}
	asks := func(cpu string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool { return p.Spec.Containers[0].Resources.Requests.Cpu().String() == cpu }
	}
	resize("200m")
	w.becomes(lower, "p", "resized", asks("200m"))

	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("300m")},
	}}
	if _, err := lower.CoreV1().ResourceQuotas(w.ns).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		q, err := lower.CoreV1().ResourceQuotas(w.ns).Get(t.Context(), "q", metav1.GetOptions{})
		if err == nil && len(q.Status.Used) == 0 {
			err = fmt.Errorf("the quota is not in force yet")
		}
		return err
	})
	resize("400m")
	w.becomes(w.upper, "p", "refused", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, corev1.PodResizePending)
		return c.Reason == corev1.PodReasonInfeasible && strings.Contains(c.Message, "exceeded quota")
	})
	patch := []byte(`{"metadata":{"labels":{"note":"new"}}}`)
	if _, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	below := w.becomes(lower, "p", "labelled", func(p *corev1.Pod) bool { return p.Labels["note"] == "new" })
	if !asks("200m")(below) {
		t.Errorf("resources below %v", below.Spec.Containers[0].Resources)
	}
	resize("300m")
	w.becomes(lower, "p", "resized", asks("300m"))
	w.becomes(w.upper, "p", "not refused any more", func(p *corev1.Pod) bool {
		return conditionOf(p.Status.Conditions, corev1.PodResizePending).Type == ""
	})
}

// kubectl debug: an ephemeral container comes down, and its status comes up.
func TestEphemeralContainer(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	w.create(w.pod("p", 1))
	pod := w.becomes(w.upper, "p", "Running", running)
	for _, name := range []string{"first", "second"} {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "shell", TerminationMessagePolicy: corev1.TerminationMessageReadFile},
			TargetContainerName:      "main",
		})
		patch := fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":%q,"image":"shell","targetContainerName":"main"}]}}`, name)
		if _, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers"); err != nil {
			t.Fatal(err)
		}
		w.becomes(lower, "p", "debugged", func(p *corev1.Pod) bool {
			n := len(p.Spec.EphemeralContainers)
			return n == len(pod.Spec.EphemeralContainers) && p.Spec.EphemeralContainers[n-1].TargetContainerName == "main"
		})
	}
	w.status(lower, "p", `{"ephemeralContainerStatuses":[{"name":"first","image":"shell","imageID":"","ready":false,"restartCount":0,`+
		`"state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}`)
	w.becomes(w.upper, "p", "being debugged", func(p *corev1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Running != nil
	})
}

// A readiness gate that is set above reaches the lower kubelet, and one that is set below shows above.
func TestReadinessGates(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	w.create(w.pod("p", 1, func(p *corev1.Pod) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/above"}, {ConditionType: "example.com/below"}}
	}))
	w.becomes(w.upper, "p", "Running", running)
	set := func(client kubernetes.Interface, gate, status, second string) {
		w.status(client, "p", fmt.Sprintf(`{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":"2026-01-01T00:00:%sZ"}]}`, gate, status, second))
	}
	is := func(gate corev1.PodConditionType, status corev1.ConditionStatus) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool { return conditionOf(p.Status.Conditions, gate).Status == status }
	}
	for second, status := range []corev1.ConditionStatus{"True", "False", "True"} {
		at := fmt.Sprintf("%02d", second)
		set(w.upper, "example.com/above", string(status), at)
		set(lower, "example.com/below", string(status), at)
		w.becomes(lower, "p", "told from above", is("example.com/above", status))
		w.becomes(w.upper, "p", "told from below", is("example.com/below", status))
	}
}

// Init containers run and end, sidecars run on, and containers are restarted as the policy says: all of it shows above.
func TestContainersOfAllKinds(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	always := corev1.ContainerRestartPolicyAlways
	w.create(w.pod("kinds", 1, func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "init:1"}, {Name: "side", Image: "side:1", RestartPolicy: &always}}
	}))
	failing := func(p *corev1.Pod) {
		p.Annotations = map[string]string{"lab.tessera.sh/run-seconds": "0", "lab.tessera.sh/exit-code": "3"}
	}
	w.create(w.pod("on-failure", 1, failing, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
	w.create(w.pod("always", 1, failing))
	w.becomes(w.upper, "kinds", "initialized and running", func(p *corev1.Pod) bool {
		s := p.Status.InitContainerStatuses
		return running(p) && len(s) == 2 && s[0].State.Terminated != nil && s[1].State.Running != nil
	})
	for _, name := range []string{"on-failure", "always"} {
		w.becomes(w.upper, name, "restarted", func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return running(p) && s[0].RestartCount > 0 && s[0].LastTerminationState.Terminated.ExitCode == 3
		})
	}
}

// Jobs come to their end, with as many pods as it takes and no more.
func TestJobs(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	make := func(name, code string, completions, retries int32) {
		t.Helper()
		pod := w.pod("", 1, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
		pod.Labels = map[string]string{"job": name}
		pod.Annotations = map[string]string{"lab.tessera.sh/exit-code": code} // They end by themselves, as those of a Job below do.
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
			Completions: &completions, Parallelism: &completions, BackoffLimit: &retries,
			Template: corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec},
		}}
		job.Spec.Template.Namespace = ""
		if _, err := w.upper.BatchV1().Jobs(w.ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	make("good", "0", 3, 0)
	make("bad", "1", 1, 0)
	for name, want := range map[string]batchv1.JobConditionType{"good": batchv1.JobComplete, "bad": batchv1.JobFailed} {
		w.eventually(func() error {
			job, err := w.upper.BatchV1().Jobs(w.ns).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range job.Status.Conditions {
				if c.Type == want && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("job %s is %+v", name, job.Status)
		})
		pods, err := w.upper.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "job=" + name})
		if count := map[string]int{"good": 3, "bad": 1}[name]; err != nil || len(pods.Items) != count {
			t.Errorf("job %s has made %d pods, want %d (%v)", name, len(pods.Items), count, err)
		}
	}
}
