package pods

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// mode is how a pod is told the node that ask named; HintOff where it named none.
func (r *Reconciler) mode(node string) HintMode {
	if node == "" {
		return HintOff
	}
	return r.Hints.modes.of(r.Name, time.Now())
}

// giveHint tells a gated pod's node to the lower scheduler and lets the pod go. Where the status may not be patched
// the hint goes into the affinity, which may still be changed for as long as the pod is gated.
//
// An interruption leaves a gated pod, which tend takes up again.
func (r *Reconciler) giveHint(ctx context.Context, upper, lower *corev1.Pod, node string, memory *memory) error {
	mode := r.mode(node)
	if mode == HintNominated {
		nominated, err := r.nominate(ctx, lower, node)
		switch {
		case err == nil:
			lower = nominated
		case refused(err):
			mode = HintPreferred
		default:
			return gone(fmt.Errorf("nominating node: %w", err))
		}
	}
	err := r.ungate(ctx, lower, mode, node)
	if refused(err) && mode != HintOff {
		r.Log.Warn("The lower cluster takes no hint, the pod goes without", "pod", KeyOf(upper), "mode", mode, "err", err)
		r.Metrics.hint(r.Name, mode, "refused")
		mode = HintOff
		err = r.ungate(ctx, lower, mode, "")
	}
	if err != nil {
		return gone(fmt.Errorf("taking the gate off: %w", err))
	}
	memory.ungated = lower.UID
	r.given(mode)
	return nil
}

// given counts a hint that the lower scheduler has been told.
func (r *Reconciler) given(mode HintMode) {
	if mode != HintOff {
		r.Metrics.hint(r.Name, mode, "given")
	}
}

// nominate writes the node into the pod's status and returns the pod as it is then. The scheduler tries that node
// first and takes it if the pod fits, whatever its preferences say; else it goes on as usual.
func (r *Reconciler) nominate(ctx context.Context, lower *corev1.Pod, node string) (*corev1.Pod, error) {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"nominatedNodeName":%q}}`, lower.UID, node)
	nominated, err := r.Lower.Pods(lower.Namespace).
		Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case err == nil && r.Hints.modes.taken(r.Name):
		r.Log.Info("The lower cluster lets the status of pods be patched again, hints are nominated")
	case refused(err):
		r.Metrics.hint(r.Name, HintNominated, "refused")
		// What is invalid may be invalid in this one pod; what is forbidden is so in all of them.
		if apierrors.IsForbidden(err) && r.Hints.modes.refused(r.Name, time.Now()) {
			r.Log.Warn("The lower cluster lets no status of pods be patched, hints are preferred affinity instead",
				"again", nominateAgain, "err", err)
		}
	}
	return nominated, err
}

// refused: the lower cluster does not want it that way, however often it is asked.
func refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

// ungate takes our gate off, leaves those of others, and puts the hint into the affinity if that is the mode.
func (r *Reconciler) ungate(ctx context.Context, lower *corev1.Pod, mode HintMode, node string) error {
	before := &corev1.Pod{ // What may change.
		ObjectMeta: metav1.ObjectMeta{Annotations: lower.Annotations},
		Spec:       corev1.PodSpec{SchedulingGates: lower.Spec.SchedulingGates, Affinity: lower.Spec.Affinity},
	}
	after := before.DeepCopy()
	after.UID, after.ResourceVersion = lower.UID, lower.ResourceVersion // Lists are replaced, so it is for what was read.
	after.Spec.SchedulingGates = slices.DeleteFunc(after.Spec.SchedulingGates,
		func(g corev1.PodSchedulingGate) bool { return g.Name == keys.HintGate })
	tell(&after.Spec, mode, node)
	note(after, node)
	patch, err := twoWay(before, after)
	if err != nil {
		return err
	}
	_, err = r.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// note leaves the hint on the lower pod. An extender that has just started reads there where the pod is going, whatever
// the mode, and before the status can say so.
func note(lower *corev1.Pod, node string) {
	if node != "" {
		metav1.SetMetaDataAnnotation(&lower.ObjectMeta, keys.HintNode, node)
	}
}

// gone drops the error of a pod that has gone or been changed meanwhile: its event brings us back.
func gone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
