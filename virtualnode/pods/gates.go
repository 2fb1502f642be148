package pods

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The conditions of a pod's readiness gates may be set above or below: above by a load balancer's controller, say, and only
// the lower kubelet can then say that the pod is Ready. Whoever sets one notes when it changed, and copies keep that time. So
// the newer one of the two goes to the other side, and nothing needs to be remembered.

// gateOf returns the condition of a readiness gate that counts, nil if there is none, and whether it is the upper pod's.
func gateOf(upper, lower *corev1.Pod, kind corev1.PodConditionType) (counts *corev1.PodCondition, fromAbove bool) {
	above, below := condition(upper, kind), condition(lower, kind)
	if above == nil || (below != nil && above.LastTransitionTime.Before(&below.LastTransitionTime)) {
		return below, false
	}
	return above, true
}

// tellGates puts the conditions of readiness gates that were set below into the status of the upper pod.
func tellGates(status *corev1.PodStatus, upper, lower *corev1.Pod) {
	for _, gate := range upper.Spec.ReadinessGates {
		counts, fromAbove := gateOf(upper, lower, gate.ConditionType)
		if counts == nil {
			continue
		}
		c := *counts
		if !fromAbove {
			c.ObservedGeneration = 0 // Counts generations of the lower pod.
		}
		status.Conditions = setCondition(status.Conditions, c)
	}
}

// bringGates puts those that were set above into the status of the lower pod.
func (r *Reconciler) bringGates(ctx context.Context, upper, lower *corev1.Pod, memory *memory) error {
	after := lower.Status.Conditions
	changed := false
	for _, gate := range upper.Spec.ReadinessGates {
		counts, fromAbove := gateOf(upper, lower, gate.ConditionType)
		if !fromAbove || (condition(lower, gate.ConditionType) != nil && sameGate(*counts, *condition(lower, gate.ConditionType))) {
			continue
		}
		c := *counts
		c.ObservedGeneration = 0 // Counts generations of the upper pod.
		after, changed = setCondition(after, c), true
	}
	if !changed {
		delete(memory.unwanted, changeGates)
		return nil
	}
	of := sum(after)
	if snapshot.Finished(lower) || memory.waits(changeGates, of) {
		return nil
	}
	patch, err := twoWay(
		&corev1.Pod{Status: corev1.PodStatus{Conditions: lower.Status.Conditions}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: lower.UID}, Status: corev1.PodStatus{Conditions: after}},
	)
	if err != nil {
		return fmt.Errorf("bringing readiness gates down: %w", err)
	}
	_, err = r.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return r.answered(changeGates, of, upper, memory, err)
}

// sameGate reports whether a copy says what the original says.
func sameGate(a, b corev1.PodCondition) bool {
	a.ObservedGeneration, b.ObservedGeneration = 0, 0
	return a.LastTransitionTime.Equal(&b.LastTransitionTime) && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
