package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// What is over above and runs below is ended there if the upper API server says so, too.
func TestOverAbove(t *testing.T) {
	t.Parallel()
	over := upperPod("1", phase(corev1.PodSucceeded))
	for name, c := range map[string]struct {
		now   *corev1.Pod // as the upper API server has it, nil for what the cache has
		stays bool
	}{
		"over":                       {nil, false},
		"the cache is wrong":         {upperPod("1", phase(corev1.PodRunning)), true},
		"another pod has taken over": {upperPod("2", phase(corev1.PodSucceeded)), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{over.DeepCopy()}, []runtime.Object{lowerPod("1")})
			b.sees(t)
			if c.now != nil {
				if _, err := b.Upper.Pods("ns").Update(t.Context(), c.now, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			b.sees(t)
			if left := b.podBelow("ns/p", over) != nil; left != c.stays {
				t.Errorf("it is below: %t, want %t", left, c.stays)
			}
		})
	}
}
