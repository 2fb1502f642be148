package down

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// BringGates puts the conditions of readiness gates that were set above into the status of the lower pod.
func (c Changes) BringGates(ctx context.Context, upper, lower *corev1.Pod, memory *Memory) error {
	after := lower.Status.Conditions
	changed := false
	for _, gate := range upper.Spec.ReadinessGates {
		counts, fromAbove := pair.GateOf(upper, lower, gate.ConditionType)
		if !fromAbove || (pair.Condition(lower, gate.ConditionType) != nil && sameGate(*counts, *pair.Condition(lower, gate.ConditionType))) {
			continue
		}
		c := *counts
		c.ObservedGeneration = 0 // Counts generations of the upper pod.
		after, changed = pair.SetCondition(after, c), true
	}
	if !changed {
		delete(memory.refused, changeGates)
		return nil
	}
	of := sum(after)
	if snapshot.Finished(lower) || memory.waits(changeGates, of) {
		return nil
	}
	patch, err := pair.TwoWay(
		&corev1.Pod{Status: corev1.PodStatus{Conditions: lower.Status.Conditions}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: lower.UID}, Status: corev1.PodStatus{Conditions: after}},
	)
	if err != nil {
		return fmt.Errorf("bringing readiness gates down: %w", err)
	}
	_, err = c.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return c.answered(changeGates, of, upper, memory, err)
}

// sameGate reports whether a copy says what the original says.
func sameGate(a, b corev1.PodCondition) bool {
	a.ObservedGeneration, b.ObservedGeneration = 0, 0
	return a.LastTransitionTime.Equal(&b.LastTransitionTime) && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
