package down

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// bringEphemeral adds the ephemeral containers (kubectl debug) that the lower pod lacks. They are never changed nor removed.
func (c Changes) bringEphemeral(ctx context.Context, upper, lower *corev1.Pod, memory *Memory) error {
	lacking := slices.DeleteFunc(slices.Clone(upper.Spec.EphemeralContainers), func(c corev1.EphemeralContainer) bool {
		return slices.ContainsFunc(lower.Spec.EphemeralContainers, func(b corev1.EphemeralContainer) bool { return b.Name == c.Name })
	})
	if len(lacking) == 0 {
		delete(memory.refused, changeEphemeral)
		return nil
	}
	of := sum(lacking)
	if memory.waits(changeEphemeral, of) {
		return nil
	}
	err := c.translateEphemeral(upper, lacking)
	if err == nil {
		err = c.addEphemeral(ctx, lower, lacking)
	}
	return c.answered(changeEphemeral, of, upper, memory, err)
}

// translateEphemeral translates ephemeral containers in place. They are handed to the translation as ordinary ones, so
// that what holds for those (powers, fields of the downward API) holds for them.
func (c Changes) translateEphemeral(upper *corev1.Pod, ephemeral []corev1.EphemeralContainer) error {
	pod := *upper
	pod.Spec.InitContainers, pod.Spec.EphemeralContainers, pod.Spec.Containers = nil, nil, nil
	for i := range ephemeral {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container(ephemeral[i].EphemeralContainerCommon))
	}
	lower, err := translate.LowerPod(&pod, c.Target())
	if err != nil {
		return apierrors.NewBadRequest(err.Error()) // As a lower admission would say it: it is told above.
	}
	for i := range ephemeral {
		ephemeral[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(lower.Spec.Containers[i])
	}
	return nil
}

func (c Changes) addEphemeral(ctx context.Context, lower *corev1.Pod, ephemeral []corev1.EphemeralContainer) error {
	before := &corev1.Pod{Spec: corev1.PodSpec{EphemeralContainers: lower.Spec.EphemeralContainers}}
	after := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: lower.UID}, Spec: corev1.PodSpec{
		EphemeralContainers: slices.Concat(lower.Spec.EphemeralContainers, ephemeral),
	}}
	patch, err := pair.TwoWay(before, after)
	if err != nil {
		return fmt.Errorf("adding ephemeral containers: %w", err)
	}
	_, err = c.Lower.Pods(lower.Namespace).
		Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "ephemeralcontainers")
	return err
}
