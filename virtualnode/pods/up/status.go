package up

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// Report carries the status of the lower pod up. While the lower cluster is out of reach nothing is reported: what
// the cache holds is old, and the upper cluster has drawn its own conclusions (Ready=False) meanwhile. Nor is anything
// reported of a pod that is over above. why is what keeps it from a lower node, nil if nothing does. again > 0: there is news that
// waits for more to come with it.
func (r Reports) Report(
	ctx context.Context, upper, lower *corev1.Pod, refused RefusedSize, why *Unplaced, memory *Memory,
) (again time.Duration, err error) {
	if pair.Gated(lower) || !r.Reachable() || snapshot.Finished(upper) {
		return 0, nil
	}
	told := r.reported(upper, lower, refused)
	event := r.setUnplaced(&told.Status, upper, why)
	if again := memory.early(upper, told, time.Now()); again > 0 {
		return again, nil
	}
	err = r.WriteStatus(ctx, upper, told)
	if err == nil {
		event()
	}
	return 0, err
}

// scheduledPause is how long it is kept to ourselves that a lower pod has a node and nothing else happened: mostly its
// kubelet says more by then, and one write does for both.
const scheduledPause = 250 * time.Millisecond

// early returns how long news is to wait for more; 0 for what is to be told now.
func (m *Memory) early(upper, told *corev1.Pod, now time.Time) time.Duration {
	before, after := pair.Condition(upper, keys.LowerScheduled), pair.Condition(told, keys.LowerScheduled)
	bare := told.Status.Phase == corev1.PodPending && len(told.Status.InitContainerStatuses)+len(told.Status.ContainerStatuses) == 0
	scheduled := after != nil && after.Status == corev1.ConditionTrue && (before == nil || before.Status != corev1.ConditionTrue)
	if !scheduled || !bare || upper.DeletionTimestamp != nil {
		m.scheduled = time.Time{}
		return 0
	}
	if m.scheduled.IsZero() {
		m.scheduled = now
	}
	return max(0, scheduledPause-now.Sub(m.scheduled))
}

// reported is the upper pod with the status and the facts that the lower one tells.
func (r Reports) reported(upper, lower *corev1.Pod, refused RefusedSize) *corev1.Pod {
	pod := *upper
	pod.Status = translate.UpperStatus(upper, lower, r.ShowAddresses)
	setGates(&pod.Status, upper, lower)
	setRefusedSize(&pod.Status, refused)
	if ended(upper, lower) {
		end := EndingOf(r.Name, lower.Status.Conditions)
		pod.Status.Phase = corev1.PodFailed
		if pod.Status.Reason == "" {
			pod.Status.Reason, pod.Status.Message = end.Reason, end.Message
		}
	}
	pod.Annotations = maps.Clone(upper.Annotations)
	for name, value := range map[string]string{keys.LowerNode: lower.Spec.NodeName, keys.LowerIP: lower.Status.PodIP} {
		if value != "" {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, name, value)
		}
	}
	if pod.Annotations[keys.LowerNode] != upper.Annotations[keys.LowerNode] { // Never in a call of its own.
		if cost, wanted := seal.DeletionCost(upper, r.Name); wanted {
			pod.Annotations[corev1.PodDeletionCost] = cost
		}
	}
	return &pod
}

// WriteStatus writes what differs of status and annotations, in one call. Only differences are sent, so what others
// change at the same time (labels, conditions of theirs) is not turned back.
func (r Reports) WriteStatus(ctx context.Context, upper, wanted *corev1.Pod) error {
	if equality.Semantic.DeepEqual(sorted(upper.Status), sorted(wanted.Status)) && maps.Equal(upper.Annotations, wanted.Annotations) {
		return nil
	}
	old := metav1.ObjectMeta{Annotations: upper.Annotations, Finalizers: upper.Finalizers}
	meta := metav1.ObjectMeta{Annotations: wanted.Annotations, Finalizers: wanted.Finalizers, UID: upper.UID}
	patch, err := pair.TwoWay(&corev1.Pod{ObjectMeta: old, Status: upper.Status}, &corev1.Pod{ObjectMeta: meta, Status: wanted.Status})
	if err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	written, err := r.Upper.Pods(upper.Namespace).Patch(ctx, upper.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // Gone or replaced by another of that name: an event brings us back.
	}
	r.Count(err)
	if err != nil {
		return fmt.Errorf("writing status: %w", err)
	}
	r.Wrote(upper, written)
	return nil
}

// sorted makes the order of the conditions not matter.
func sorted(status corev1.PodStatus) corev1.PodStatus {
	status.Conditions = slices.SortedFunc(slices.Values(status.Conditions),
		func(a, b corev1.PodCondition) int { return cmp.Compare(a.Type, b.Type) })
	return status
}

// Missing says of an upper pod that nothing of it is below, and that it serves nobody, without ending it yet.
func (r Reports) Missing(ctx context.Context, upper *corev1.Pod, reason, message string) error {
	pod := *upper
	pod.Status.Conditions = slices.Clone(upper.Status.Conditions)
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if (c.Type == corev1.PodReady || c.Type == corev1.ContainersReady) && (c.Status != corev1.ConditionFalse || c.Reason != reason) {
			if c.Status != corev1.ConditionFalse {
				c.LastTransitionTime = metav1.Now()
			}
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
	}
	return r.WriteStatus(ctx, upper, &pod)
}

// Fail ends an upper pod, so that its controller makes another.
func (r Reports) Fail(ctx context.Context, upper *corev1.Pod, reason, message string) error {
	return r.WriteStatus(ctx, upper, Failed(upper, reason, message, metav1.Now()))
}

// Failed is the upper pod with a status that ends it.
func Failed(upper *corev1.Pod, reason, message string, now metav1.Time) *corev1.Pod {
	pod := *upper
	status := upper.Status.DeepCopy()
	status.Phase, status.Reason, status.Message = corev1.PodFailed, reason, message
	for i := range status.ContainerStatuses {
		c := &status.ContainerStatuses[i]
		if c.State.Terminated != nil {
			continue
		}
		ended := &corev1.ContainerStateTerminated{ExitCode: 137, Reason: reason, FinishedAt: now, ContainerID: c.ContainerID}
		if c.State.Running != nil {
			ended.StartedAt = c.State.Running.StartedAt
		}
		c.State, c.Ready, c.Started = corev1.ContainerState{Terminated: ended}, false, new(bool)
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if (c.Type == corev1.PodReady || c.Type == corev1.ContainersReady) && c.Status == corev1.ConditionTrue {
			c.Status, c.Reason, c.LastTransitionTime = corev1.ConditionFalse, "PodFailed", now
		}
	}
	pod.Status = *status
	return &pod
}

// RefusedSize is a new size that the lower cluster refuses: what it says, and since when. Its text is empty where it does not.
type RefusedSize struct {
	Text  string
	Since time.Time
}

// setRefusedSize says in the status of the upper pod that its lower cluster refuses the new size, as a kubelet would.
func setRefusedSize(status *corev1.PodStatus, refused RefusedSize) {
	if refused.Text == "" {
		return
	}
	status.Conditions = pair.SetCondition(status.Conditions, corev1.PodCondition{
		Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible,
		Message: "The lower cluster refuses the resize: " + refused.Text, LastTransitionTime: metav1.NewTime(refused.Since.Truncate(time.Second)),
	})
}

// setGates puts the conditions of readiness gates that were set below into the status of the upper pod.
func setGates(status *corev1.PodStatus, upper, lower *corev1.Pod) {
	for _, gate := range upper.Spec.ReadinessGates {
		counts, fromAbove := pair.GateOf(upper, lower, gate.ConditionType)
		if counts == nil {
			continue
		}
		c := *counts
		if !fromAbove {
			c.ObservedGeneration = 0 // Counts generations of the lower pod.
		}
		status.Conditions = pair.SetCondition(status.Conditions, c)
	}
}
