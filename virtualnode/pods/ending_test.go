package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func disrupted(reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: "words",
		})
	}
}

func restarts(policy corev1.RestartPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = policy }
}

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
		"deleted":                             {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1)}, corev1.PodFailed, reasonGone},
		"killed":                              {never, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1)}, corev1.PodFailed, reasonGone},
		"deleted, its work was done":          {never, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1)}, corev1.PodSucceeded, ""},
		"evicted by the API":                  {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1), disrupted("EvictionByEvictionAPI")}, corev1.PodFailed, reasonEvicted},
		"evicted for a taint":                 {never, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1), disrupted("DeletionByTaintManager")}, corev1.PodFailed, reasonEvicted},
		"preempted":                           {always, []func(*corev1.Pod){phase(corev1.PodSucceeded), deleting(1), disrupted(corev1.PodReasonPreemptionByScheduler)}, corev1.PodFailed, reasonPreempted},
		"evicted by its kubelet":              {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("Evicted"), disrupted(corev1.PodReasonTerminationByKubelet)}, corev1.PodFailed, "Evicted"},
		"refused by its kubelet":              {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("OutOfcpu")}, corev1.PodFailed, "OutOfcpu"},
		"refused by its kubelet, a device":    {always, []func(*corev1.Pod){phase(corev1.PodFailed), because("UnexpectedAdmissionError")}, corev1.PodFailed, "UnexpectedAdmissionError"},
		"failed by itself":                    {never, []func(*corev1.Pod){phase(corev1.PodFailed)}, corev1.PodFailed, ""},
		"being evicted, its containers run":   {always, []func(*corev1.Pod){phase(corev1.PodRunning), deleting(30), disrupted("EvictionByEvictionAPI")}, corev1.PodRunning, ""},
		"its kubelet's reason is not changed": {always, []func(*corev1.Pod){phase(corev1.PodFailed), deleting(1), because("NodeShutdown"), disrupted("TerminationByKubelet")}, corev1.PodFailed, "NodeShutdown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := newBed(t, nil, nil).told(c.upper, lowerPod("1", c.lower...), &memory{}).Status
			if got.Phase != c.phase || got.Reason != c.reason {
				t.Errorf("%s %q, want %s %q", got.Phase, got.Reason, c.phase, c.reason)
			}
		})
	}
}

// A lower pod that has gone altogether told why in its last status.
func TestGoneForAReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		upper, last *corev1.Pod
		want        string
	}{
		"nothing is known":          {upperPod("1", phase(corev1.PodRunning)), nil, reasonGone},
		"no reason was given":       {upperPod("1", phase(corev1.PodRunning)), lowerPod("1"), reasonGone},
		"preempted":                 {upperPod("1", phase(corev1.PodRunning)), lowerPod("1", disrupted(corev1.PodReasonPreemptionByScheduler)), reasonPreempted},
		"an older pod of that name": {upperPod("1", phase(corev1.PodRunning)), lowerPod("0", disrupted(corev1.PodReasonPreemptionByScheduler)), reasonGone},
		"its node was removed":      {upperPod("1", phase(corev1.PodRunning)), lowerPod("1", disrupted("DeletionByPodGC")), reasonNodeLost},
		"reported before":           {upperPod("1", phase(corev1.PodRunning), disrupted("EvictionByEvictionAPI")), nil, reasonEvicted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{c.upper}, nil)
			if c.last != nil {
				b.Gone(c.last)
			}
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			b.sees(t)
			after := b.podAbove("ns/p")
			if after.Status.Phase != corev1.PodFailed || after.Status.Reason != c.want {
				t.Errorf("%s %q, want Failed %q", after.Status.Phase, after.Status.Reason, c.want)
			}
			if told := condition(after, corev1.DisruptionTarget) != nil; told != (c.want != reasonGone) {
				t.Errorf("conditions %+v", after.Status.Conditions)
			}
		})
	}
}
