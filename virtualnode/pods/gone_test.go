package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// A lower pod that has gone altogether told why in its last status.
func TestGoneForAReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		upper, last *corev1.Pod
		want        string
	}{
		"nothing is known":          {upperPod("1", phase(corev1.PodRunning)), nil, up.ReasonGone},
		"no reason was given":       {upperPod("1", phase(corev1.PodRunning)), lowerPod("1"), up.ReasonGone},
		"preempted":                 {upperPod("1", phase(corev1.PodRunning)), lowerPod("1", disrupted(corev1.PodReasonPreemptionByScheduler)), up.ReasonPreempted},
		"an older pod of that name": {upperPod("1", phase(corev1.PodRunning)), lowerPod("0", disrupted(corev1.PodReasonPreemptionByScheduler)), up.ReasonGone},
		"its node was removed":      {upperPod("1", phase(corev1.PodRunning)), lowerPod("1", disrupted("DeletionByPodGC")), up.ReasonNodeLost},
		"reported before":           {upperPod("1", phase(corev1.PodRunning), disrupted("EvictionByEvictionAPI")), nil, up.ReasonEvicted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{c.upper}, nil)
			if c.last != nil {
				b.Gone(c.last, true)
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
			if told := pair.Condition(after, corev1.DisruptionTarget) != nil; told != (c.want != up.ReasonGone) {
				t.Errorf("conditions %+v", after.Status.Conditions)
			}
		})
	}
}
