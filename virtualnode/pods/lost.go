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
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// lostCheck is how often the node of a lower pod that should be gone is looked at. It costs no call.
const lostCheck = 5 * time.Second

// overdue returns how long a lower pod that nobody above deleted may still take to end; false for one that need not end.
func overdue(lower *corev1.Pod, now time.Time) (left time.Duration, ending bool) {
	if lower.DeletionTimestamp == nil || lower.Spec.NodeName == "" || snapshot.Finished(lower) {
		return 0, false
	}
	return lower.DeletionTimestamp.Sub(now), true
}

// onLostNode reports whether a lower pod should be gone and its node is not there to end it. Such a pod hangs for as long as
// the node is away, which may be for ever, and its controller above should not wait for that.
func (r *Reconciler) onLostNode(lower *corev1.Pod) bool {
	if lower == nil || !r.Reachable() {
		return false
	}
	left, ending := overdue(lower, time.Now())
	return ending && left <= 0 && !r.NodeReady(lower.Spec.NodeName)
}

// lookAgain is when a lower pod that is ending has to be looked at although nothing happened to it; 0 for never.
func lookAgain(lower *corev1.Pod) time.Duration {
	left, ending := overdue(lower, time.Now())
	switch {
	case !ending:
		return 0
	case left <= 0:
		return lostCheck
	default:
		return left + time.Second
	}
}

// abandon fails the upper pod of a lower one whose node is lost. A finalizer keeps the upper object for as long as the lower
// one exists: its containers may still run on a node that is merely cut off, and the pod of a StatefulSet must not run twice.
func (r *Reconciler) abandon(ctx context.Context, upper, lower *corev1.Pod) (again time.Duration, err error) {
	ready, err := r.nodeReady(ctx, lower.Spec.NodeName)
	if err != nil || ready {
		return lostCheck, err
	}
	if wanted, err := r.upperStillWanted(ctx, upper); err != nil || !wanted {
		return recheck, err
	}
	now, err := r.find(ctx, upper)
	if err != nil || now == nil || now.UID != lower.UID || snapshot.Finished(now) {
		return recheck, err // The cache is behind.
	}
	r.Log.Warn("Lower node is lost, a pod on it fails", "pod", pair.KeyOf(upper), "uid", upper.UID, "node", lower.Spec.NodeName)
	pod := up.Failed(upper, up.ReasonNodeLost,
		fmt.Sprintf("Node %s of cluster %s is lost, and the pod was to end there", lower.Spec.NodeName, r.Name), metav1.Now())
	pod.Finalizers = append(slices.Clone(upper.Finalizers), keys.LowerPod)
	return 0, r.reports().WriteStatus(ctx, upper, pod)
}

// nodeReady asks the lower API server whether a node works. One that does not exist does not.
func (r *Reconciler) nodeReady(ctx context.Context, name string) (bool, error) {
	node, err := r.Lower.Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading lower node: %w", err)
	}
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}), nil
}

// held reports whether abandon keeps the upper object.
func held(upper *corev1.Pod) bool { return slices.Contains(upper.Finalizers, keys.LowerPod) }

// release lets an abandoned upper object go, once its lower pod has gone.
func (r *Reconciler) release(ctx context.Context, upper *corev1.Pod) (again time.Duration, err error) {
	if lower, err := r.find(ctx, upper); err != nil || lower != nil {
		return recheck, err
	}
	return 0, r.letGo(ctx, upper)
}

// letGo takes our finalizer off an upper pod of which nothing is left below.
func (r *Reconciler) letGo(ctx context.Context, upper *corev1.Pod) error {
	if !held(upper) {
		return nil
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, upper.UID, keys.LowerPod)
	_, err := r.Upper.Pods(upper.Namespace).Patch(ctx, upper.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err := pair.IgnoreGone(err); err != nil {
		return fmt.Errorf("taking our finalizer off: %w", err)
	}
	return nil
}
