package mutate

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Restore returns a sealed pod as its user wrote it: a copy of one of Tessera's pods (kubectl debug --copy-to, Velero, kubectl get -o yaml)
// that comes to a namespace which has not opted in. Pods that are not sealed are returned as they are, and the argument is not changed.
// standard is the time that the upper API server has pods tolerate a lost node if they say nothing.
func Restore(pod *corev1.Pod, standard time.Duration) (*corev1.Pod, error) {
	if !seal.Sealed(pod) {
		return pod, nil
	}
	whole, err := wholeOf(pod)
	if err != nil {
		return nil, err
	}
	if err := valid(whole); err != nil {
		return nil, err
	}
	open := pod.DeepCopy()
	whole.Write(open)
	tolerations := translate.TolerationsOf(open)
	tolerations.Restore(corev1.TaintNodeUnreachable, standard)
	noted := strings.Split(pod.Annotations[keys.Tolerations], ",")
	open.Spec.Tolerations = slices.DeleteFunc(slices.Clone(tolerations.All), func(t corev1.Toleration) bool {
		return t == toleration || t == noNetwork && slices.Contains(noted, t.Key)
	})
	if len(open.Spec.Tolerations) == 0 {
		open.Spec.Tolerations = nil
	}
	for _, key := range slices.Concat(written, reports, []string{keys.Sealed}) {
		delete(open.Annotations, key)
	}
	for _, containers := range [][]corev1.Container{open.Spec.InitContainers, open.Spec.Containers} {
		for i := range containers {
			unsetMarker(&containers[i].Resources)
		}
	}
	return open, nil
}

func unsetMarker(r *corev1.ResourceRequirements) {
	for _, list := range []*corev1.ResourceList{&r.Requests, &r.Limits} {
		delete(*list, keys.PodResource)
		if len(*list) == 0 {
			*list = nil
		}
	}
}
