package entry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestWithRuntimeClass(t *testing.T) {
	t.Parallel()
	overhead := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	blue := corev1.Toleration{Key: "blue", Operator: corev1.TolerationOpExists}
	class := &nodev1.RuntimeClass{
		Overhead:   &nodev1.Overhead{PodFixed: overhead},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"zonelet": "blue"}, Tolerations: []corev1.Toleration{blue}},
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}}
	before := pod.DeepCopy()
	got, err := WithRuntimeClass(pod, class)
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.PodSpec{
		NodeSelector: map[string]string{"disk": "ssd", "zonelet": "blue"}, Tolerations: []corev1.Toleration{blue}, Overhead: overhead,
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Errorf("the pod was changed: %s", diff)
	}
	pod.Spec.NodeSelector["zonelet"] = "green"
	if got, err := WithRuntimeClass(pod, class); err == nil {
		t.Errorf("taken: %v", got.Spec.NodeSelector)
	}
}
