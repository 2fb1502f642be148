package up

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// OnLost says what becomes of pods whose cluster is out of reach: Keep lets them be, for ever; After replaces them when it
// has been out of reach for so long; neither leaves it to their own tolerations.
type OnLost struct {
	Keep  bool
	After time.Duration
}

// lostTaints are put on a Node that is not ready. They evict pods once these have tolerated them for long enough.
var lostTaints = []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}

// Endure gives the upper pod the tolerations of a cluster that is out of reach. Done once the pod is below: until then
// there is nothing to keep, and what a pod carries at its creation goes below, where its own node may be lost.
func (r Reports) Endure(ctx context.Context, upper *corev1.Pod) error {
	tolerations := r.OnLost.tolerations(upper.Spec.Tolerations, r.DefaultToleration)
	if tolerations == nil {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": upper.UID},
		"spec":     map[string]any{"tolerations": tolerations},
	})
	if err != nil {
		return fmt.Errorf("writing tolerations: %w", err)
	}
	_, err = r.Upper.Pods(upper.Namespace).Patch(ctx, upper.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing tolerations: %w", err)
	}
	return nil
}

// tolerations returns those of a pod with the times that o says, nil if they have them. standard is the time that the
// upper API server gives to pods which say nothing: a pod with another time, or one that tolerates all, has its own will.
func (o OnLost) tolerations(pod []corev1.Toleration, standard time.Duration) []corev1.Toleration {
	if o == (OnLost{}) {
		return nil
	}
	var wanted *int64
	if !o.Keep {
		wanted = new(int64(o.After.Seconds()))
	}
	all, changed := slices.Clone(pod), false
	for _, key := range lostTaints {
		taint := &corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}
		at := slices.IndexFunc(all, func(t corev1.Toleration) bool { return t.ToleratesTaint(logr.Discard(), taint, false) })
		switch {
		case at < 0:
			all, changed = append(all, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: wanted,
			}), true
		case byDefault(all[at], key, standard) && (wanted == nil || *wanted != *all[at].TolerationSeconds):
			all[at].TolerationSeconds, changed = wanted, true
		}
	}
	if !changed {
		return nil
	}
	return all
}

// byDefault reports whether a toleration is the one that the API server's DefaultTolerationSeconds adds.
func byDefault(t corev1.Toleration, key string, standard time.Duration) bool {
	return t.Key == key && t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute &&
		t.TolerationSeconds != nil && *t.TolerationSeconds == int64(standard.Seconds())
}
