package mutate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/tessera-k8s/tessera/internal/seal"
)

// valid judges constraints as the API server would if they stayed in the spec: what is sealed it does not see.
func valid(whole seal.Constraints) error {
	if whole.Empty() {
		return nil
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "c", Image: "i", ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		}},
		RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, TerminationGracePeriodSeconds: new(int64(30)),
		SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: corev1.DefaultSchedulerName,
	}}
	whole.Write(pod)
	spec := &core.PodSpec{}
	if err := corev1conversion.Convert_v1_PodSpec_To_core_PodSpec(pod.Spec.DeepCopy(), spec, nil); err != nil {
		return fmt.Errorf("reading the pod's constraints: %w", err)
	}
	meta := &metav1.ObjectMeta{}
	options := podutil.GetValidationOptionsFromPodSpecAndMeta(spec, nil, meta, nil)
	if err := validation.ValidatePodSpec(spec, meta, field.NewPath("spec"), options).ToAggregate(); err != nil {
		return err //nolint:wrapcheck // It is the API server's own text, with the path of the field.
	}
	return nil
}
