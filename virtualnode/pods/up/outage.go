package up

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// OnLost says what becomes of pods whose cluster does not answer: Keep lets them be, for ever; After replaces them when it
// has been silent for so long; neither leaves it to their own tolerations.
type OnLost struct {
	Keep  bool
	After time.Duration
}

// Enduring is the upper pod with the tolerations of virtual nodes, nil if it has them.
//
// Kubernetes evicts pods for two taints. A node is unreachable when nobody renews its lease: that means that virtualnode is
// away, and says nothing of the pods, so they tolerate it for ever. It is not-ready when virtualnode says so, of a cluster that
// does not answer, and that is what OnLost is about.
func (r Reports) Enduring(upper *corev1.Pod) *corev1.Pod {
	tolerations := translate.TolerationsOf(upper)
	changed := tolerations.Endure(corev1.TaintNodeUnreachable, nil, r.DefaultToleration)
	if r.OnLost.notReady(&tolerations, r.DefaultToleration) {
		changed = true
	}
	if !changed {
		return nil
	}
	pod := upper.DeepCopy()
	tolerations.Write(pod)
	return pod
}

func (o OnLost) notReady(tolerations *translate.Tolerations, standard time.Duration) (changed bool) {
	const key = corev1.TaintNodeNotReady
	switch {
	case o.Keep:
		return tolerations.Endure(key, nil, standard)
	case o.After > 0:
		return tolerations.Endure(key, new(int64(o.After.Seconds())), standard)
	default:
		return tolerations.Restore(key, standard)
	}
}

// Endure gives the upper pod the tolerations of enduring, see Enduring.
func (r Reports) Endure(ctx context.Context, upper, enduring *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid":         upper.UID,
			"annotations": map[string]string{keys.Tolerations: enduring.Annotations[keys.Tolerations]},
		},
		"spec": map[string]any{"tolerations": enduring.Spec.Tolerations},
	})
	if err != nil {
		return fmt.Errorf("writing tolerations: %w", err)
	}
	written, err := r.Upper.Pods(upper.Namespace).Patch(ctx, upper.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // Gone or replaced by another of that name: an event brings us back.
	}
	if err != nil {
		return fmt.Errorf("writing tolerations: %w", err)
	}
	r.Wrote(upper, written)
	return nil
}
