package lab

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPodLives is what KWOK plays: see stages.yaml.
func TestPodLives(t *testing.T) {
	client, ns := namespace(t, shared.Get(t), 1)
	annotated := func(policy corev1.RestartPolicy, pairs ...string) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}, Spec: podSpec("10m")}
		pod.Spec.RestartPolicy = policy
		for i := 0; i < len(pairs); i += 2 {
			pod.Annotations["lab.tessera.sh/"+pairs[i]] = pairs[i+1]
		}
		return pod
	}
	always := corev1.ContainerRestartPolicyAlways
	initialized := annotated(corev1.RestartPolicyAlways)
	initialized.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "setup"}, {Name: "sidecar", Image: "sidecar", RestartPolicy: &always}}
	tests := map[string]struct {
		pod  *corev1.Pod
		want func(*corev1.Pod) bool
	}{
		"runs": {annotated(corev1.RestartPolicyAlways), func(p *corev1.Pod) bool {
			s := p.Status
			return s.Phase == corev1.PodRunning && s.PodIP != "" && s.HostIP != "" && s.StartTime != nil && isReady(p) && len(s.ContainerStatuses) == 1 &&
				s.ContainerStatuses[0].Ready && s.ContainerStatuses[0].ContainerID != "" && s.ContainerStatuses[0].State.Running != nil
		}},
		"initialized": {initialized, func(p *corev1.Pod) bool {
			s := p.Status.InitContainerStatuses
			return isReady(p) && len(s) == 2 && s[0].State.Terminated != nil && s[1].State.Running != nil
		}},
		"succeeds": {annotated(corev1.RestartPolicyNever, "run-seconds", "1"), func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodSucceeded && !isReady(p) && p.Status.ContainerStatuses[0].State.Terminated.Reason == "Completed"
		}},
		"fails": {annotated(corev1.RestartPolicyNever, "run-seconds", "1", "exit-code", "3"), func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated.ExitCode == 3
		}},
		"on-failure-ok": {annotated(corev1.RestartPolicyOnFailure, "run-seconds", "1"), func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded }},
		"on-failure": {annotated(corev1.RestartPolicyOnFailure, "run-seconds", "1", "exit-code", "2"), func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].RestartCount >= 2 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode == 2
		}},
		"always": {annotated(corev1.RestartPolicyAlways, "run-seconds", "0"), func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].RestartCount >= 2
		}},
	}
	for name, test := range tests {
		test.pod.Name = name
		if _, err := client.CoreV1().Pods(ns).Create(t.Context(), test.pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			Eventually(t, patience, func() error {
				pod, err := client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
				if err == nil && !test.want(pod) {
					err = fmt.Errorf("pod has status %+v", pod.Status)
				}
				return err
			})
		})
	}
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestJobs(t *testing.T) {
	client, ns := namespace(t, shared.Get(t), 1)
	job := func(name string, annotations map[string]string) *batchv1.Job {
		backoff := int32(0)
		spec := podSpec("10m")
		spec.RestartPolicy = corev1.RestartPolicyNever
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
			BackoffLimit: &backoff, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: spec},
		}}
	}
	want := map[string]batchv1.JobConditionType{"good": batchv1.JobComplete, "bad": batchv1.JobFailed}
	for name, annotations := range map[string]map[string]string{"good": nil, "bad": {"lab.tessera.sh/exit-code": "1"}} {
		if _, err := client.BatchV1().Jobs(ns).Create(t.Context(), job(name, annotations), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, condition := range want {
		Eventually(t, patience, func() error {
			job, err := client.BatchV1().Jobs(ns).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range job.Status.Conditions {
				if c.Type == condition && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("job %s has status %+v", name, job.Status)
		})
	}
	background := metav1.DeletePropagationBackground
	if err := client.BatchV1().Jobs(ns).Delete(t.Context(), "good", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, noPods(client, ns, "job-name=good"))
}

// TestDeletion checks that a deleted pod goes quickly, or after its grace period if it asks for that.
func TestDeletion(t *testing.T) {
	client, ns := namespace(t, shared.Get(t), 1)
	grace := int64(4)
	for name, annotations := range map[string]map[string]string{"quick": nil, "slow": {"lab.tessera.sh/slow-stop": "true"}} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Spec: podSpec("10m")}
		pod.Spec.TerminationGracePeriodSeconds = &grace
		if _, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, patience, phaseIs(client, ns, name, corev1.PodRunning))
	}
	for name, least := range map[string]time.Duration{"quick": 0, "slow": 3 * time.Second} {
		begin := time.Now()
		if err := client.CoreV1().Pods(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		Eventually(t, patience, gone(func() error {
			_, err := client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
			return err
		}))
		took := time.Since(begin)
		t.Logf("%s: gone after %s", name, took.Round(time.Millisecond))
		if took < least {
			t.Errorf("pod %s was gone after %s, want at least %s", name, took, least)
		}
	}
}
