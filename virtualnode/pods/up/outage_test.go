package up

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// toleration is one of a lost node for so many seconds; none is for ever.
func toleration(key string, seconds ...int64) corev1.Toleration {
	t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	if len(seconds) > 0 {
		t.TolerationSeconds = &seconds[0]
	}
	return t
}

func TestOnLost(t *testing.T) {
	t.Parallel()
	const notReady, unreachable = corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable
	virtual := corev1.Toleration{Key: "tessera.sh/virtual", Operator: corev1.TolerationOpExists}
	everything := corev1.Toleration{Operator: corev1.TolerationOpExists}
	keep, after := OnLost{Keep: true}, OnLost{After: 10 * time.Minute}
	standard := []corev1.Toleration{virtual, toleration(notReady, 300), toleration(unreachable, 300)}
	cases := map[string]struct {
		lost      OnLost
		pod, want []corev1.Toleration
	}{
		"standard":                     {OnLost{}, standard, []corev1.Toleration{virtual, toleration(notReady, 300), toleration(unreachable)}},
		"standard, says nothing":       {OnLost{}, nil, []corev1.Toleration{toleration(unreachable)}},
		"keep":                         {keep, standard, []corev1.Toleration{virtual, toleration(notReady), toleration(unreachable)}},
		"after":                        {after, standard, []corev1.Toleration{virtual, toleration(notReady, 600), toleration(unreachable)}},
		"done already":                 {keep, []corev1.Toleration{toleration(notReady), toleration(unreachable)}, nil},
		"done already, after":          {after, []corev1.Toleration{toleration(notReady, 600), toleration(unreachable)}, nil},
		"the same time as the default": {OnLost{After: 5 * time.Minute}, standard, []corev1.Toleration{virtual, toleration(notReady, 300), toleration(unreachable)}},
		"times of its own":             {keep, []corev1.Toleration{toleration(notReady, 30), toleration(unreachable, 0)}, nil},
		"one time of its own": {keep, []corev1.Toleration{toleration(notReady, 30), toleration(unreachable, 300)},
			[]corev1.Toleration{toleration(notReady, 30), toleration(unreachable)}},
		"no limit of its own":       {after, []corev1.Toleration{toleration(notReady), toleration(unreachable)}, nil},
		"tolerates all":             {after, []corev1.Toleration{everything}, nil},
		"says nothing":              {keep, []corev1.Toleration{virtual}, []corev1.Toleration{virtual, toleration(unreachable), toleration(notReady)}},
		"tolerates it by its value": {keep, []corev1.Toleration{{Key: notReady}, {Key: unreachable, Effect: corev1.TaintEffectNoExecute}}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := upperPod("1")
			pod.Annotations, pod.Spec.Tolerations = nil, c.pod
			before := pod.DeepCopy()
			got := (Reports{OnLost: c.lost, DefaultToleration: 5 * time.Minute}).Enduring(pod)
			if (got == nil) != (c.want == nil) {
				t.Fatalf("got %v", got)
			}
			if diff := cmp.Diff(before, pod); diff != "" {
				t.Errorf("the cached pod was changed: %s", diff)
			}
			if got == nil {
				return
			}
			if diff := cmp.Diff(c.want, got.Spec.Tolerations); diff != "" {
				t.Error(diff)
			}
			if again := (Reports{OnLost: c.lost, DefaultToleration: 5 * time.Minute}).Enduring(got); again != nil {
				t.Errorf("it has no end: %v", again.Spec.Tolerations)
			}
		})
	}
}

// What is configured now holds, also for pods that had what was configured before; what a pod said itself stays.
func TestOnLostChanges(t *testing.T) {
	t.Parallel()
	pod := upperPod("1")
	pod.Annotations = nil
	pod.Spec.Tolerations = []corev1.Toleration{toleration(corev1.TaintNodeNotReady, 300), toleration(corev1.TaintNodeUnreachable, 300)}
	for _, step := range []struct {
		lost OnLost
		want []int64
	}{{OnLost{Keep: true}, nil}, {OnLost{After: time.Minute}, []int64{60}}, {OnLost{}, []int64{300}}} {
		pod = (Reports{OnLost: step.lost, DefaultToleration: 5 * time.Minute}).Enduring(pod)
		want := []corev1.Toleration{toleration(corev1.TaintNodeNotReady, step.want...), toleration(corev1.TaintNodeUnreachable)}
		if diff := cmp.Diff(want, pod.Spec.Tolerations); diff != "" {
			t.Errorf("%+v: %s", step.lost, diff)
		}
	}
}
