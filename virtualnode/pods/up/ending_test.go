package up

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// However a lower pod is ended by others, the upper one fails with the reason.
func TestEndedBelow(t *testing.T) {
	t.Parallel()
	always := upperPod("1", restarts(corev1.RestartPolicyAlways), phase(corev1.PodRunning))
	never := upperPod("1", restarts(corev1.RestartPolicyNever), phase(corev1.PodRunning))
	because := func(reason string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Reason = reason } }
	for name, c := range map[string]struct {
		upper  *corev1.Pod
		lower  []func(*corev1.Pod)
		phase  corev1.PodPhase
		reason string
	}{
		"deleted":                             {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1)}, corev1.PodFailed, ReasonGone},
		"killed":                              {never, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1)}, corev1.PodFailed, ReasonGone},
		"deleted, its work was done":          {never, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1)}, corev1.PodSucceeded, ""},
		"evicted by the API":                  {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1), disrupted("EvictionByEvictionAPI")}, corev1.PodFailed, ReasonEvicted},
		"evicted for a taint":                 {never, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1), disrupted("DeletionByTaintManager")}, corev1.PodFailed, ReasonEvicted},
		"preempted":                           {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1), disrupted(corev1.PodReasonPreemptionByScheduler)}, corev1.PodFailed, ReasonPreempted},
		"evicted by its kubelet":              {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("Evicted"), disrupted(corev1.PodReasonTerminationByKubelet)}, corev1.PodFailed, "Evicted"},
		"refused by its kubelet":              {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("OutOfcpu")}, corev1.PodFailed, "OutOfcpu"},
		"refused by its kubelet, a device":    {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("UnexpectedAdmissionError")}, corev1.PodFailed, "UnexpectedAdmissionError"},
		"failed by itself":                    {never, []func(*corev1.Pod){phase(corev1.PodFailed)}, corev1.PodFailed, ""},
		"being evicted, its containers run":   {always, []func(*corev1.Pod){phase(corev1.PodRunning), deleting(30), disrupted("EvictionByEvictionAPI")}, corev1.PodRunning, ""},
		"its kubelet's reason is not changed": {always, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1), because("NodeShutdown"), disrupted("TerminationByKubelet")}, corev1.PodFailed, "NodeShutdown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (Reports{Name: "v"}).reported(c.upper, lowerPod("1", c.lower...), RefusedSize{}).Status
			if got.Phase != c.phase || got.Reason != c.reason {
				t.Errorf("%s %q, want %s %q", got.Phase, got.Reason, c.phase, c.reason)
			}
		})
	}
}
