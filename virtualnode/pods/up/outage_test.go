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
		"standard":                     {OnLost{}, standard, nil},
		"keep":                         {keep, standard, []corev1.Toleration{virtual, toleration(notReady), toleration(unreachable)}},
		"after":                        {after, standard, []corev1.Toleration{virtual, toleration(notReady, 600), toleration(unreachable, 600)}},
		"done already":                 {keep, []corev1.Toleration{toleration(notReady), toleration(unreachable)}, nil},
		"done already, after":          {after, []corev1.Toleration{toleration(notReady, 600), toleration(unreachable, 600)}, nil},
		"the same time as the default": {OnLost{After: 5 * time.Minute}, standard, nil},
		"a time of its own":            {keep, []corev1.Toleration{toleration(notReady, 30), toleration(unreachable, 0)}, nil},
		"one time of its own": {keep, []corev1.Toleration{toleration(notReady, 30), toleration(unreachable, 300)},
			[]corev1.Toleration{toleration(notReady, 30), toleration(unreachable)}},
		"no limit of its own":       {after, []corev1.Toleration{toleration(notReady), toleration(unreachable)}, nil},
		"tolerates all":             {after, []corev1.Toleration{everything}, nil},
		"says nothing":              {keep, []corev1.Toleration{virtual}, []corev1.Toleration{virtual, toleration(notReady), toleration(unreachable)}},
		"says nothing, after":       {after, nil, []corev1.Toleration{toleration(notReady, 600), toleration(unreachable, 600)}},
		"tolerates it by its value": {keep, []corev1.Toleration{{Key: notReady}, {Key: unreachable, Effect: corev1.TaintEffectNoExecute}}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := append([]corev1.Toleration(nil), c.pod...)
			if diff := cmp.Diff(c.want, c.lost.tolerations(c.pod, 5*time.Minute)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, c.pod); diff != "" {
				t.Errorf("the cached pod was changed: %s", diff)
			}
		})
	}
}
