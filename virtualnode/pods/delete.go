package pods

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// end deletes the lower pod with the grace of the upper one and reports how it ends. An abandoned pod ended above without
// a grace, and to take the lower object away by force would say that its containers have ended: it is left alone.
func (r *Reconciler) end(ctx context.Context, upper, lower *corev1.Pod) error {
	if held(upper) {
		return nil
	}
	grace := upper.DeletionGracePeriodSeconds
	if lower.DeletionTimestamp == nil || shorter(grace, lower.DeletionGracePeriodSeconds) {
		if err := r.deleteBelow(ctx, lower, grace); err != nil {
			return err
		}
	}
	_, err := r.report(ctx, upper, lower, r.remember(KeyOf(upper), upper))
	return err
}

func shorter(a, b *int64) bool { return a != nil && b != nil && *a < *b }

// deleteBelow deletes a lower pod of ours, that very one. nil grace is the pod's own.
func (r *Reconciler) deleteBelow(ctx context.Context, lower *corev1.Pod, grace *int64) error {
	err := r.Lower.Pods(lower.Namespace).Delete(ctx, lower.Name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: metav1.NewUIDPreconditions(string(lower.UID)),
	})
	if err := gone(err); err != nil {
		return fmt.Errorf("deleting pod below: %w", err)
	}
	return nil
}

// remove takes the upper pod away once nothing is left of it below, and not before: its room below counts as taken
// for as long as the upper object exists.
func (r *Reconciler) remove(ctx context.Context, upper *corev1.Pod) error {
	lower, err := r.find(ctx, upper)
	if err != nil {
		return err
	}
	if lower != nil {
		return r.deleteBelow(ctx, lower, upper.DeletionGracePeriodSeconds)
	}
	if len(upper.Finalizers) > 0 && !snapshot.Finished(upper) {
		// The object stays for now, and whoever put the finalizer there (a Job) waits for the pod to be finished.
		if err := r.fail(ctx, upper, reasonGone, "The pod was deleted and has ended below"); err != nil {
			return err
		}
	}
	err = r.Upper.Pods(upper.Namespace).Delete(ctx, upper.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(upper.UID)),
	})
	if err := gone(err); err != nil {
		return fmt.Errorf("removing pod above: %w", err)
	}
	return r.letGo(ctx, upper)
}

// find asks the lower API server for the pod that stands for upper; nil if there is none.
func (r *Reconciler) find(ctx context.Context, upper *corev1.Pod) (*corev1.Pod, error) {
	lower, err := r.Lower.Pods(r.Target().Rules.LowerNamespace(upper.Namespace)).Get(ctx, upper.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading pod below: %w", err)
	}
	if lower.Labels[keys.Upper] != r.Target().Identity || upperUID(lower) != upper.UID {
		return nil, nil
	}
	return lower, nil
}

// replace says above that the lower pod has gone although nobody above wanted that.
func (r *Reconciler) replace(ctx context.Context, upper *corev1.Pod, memory *memory) (again time.Duration, err error) {
	if time.Since(memory.createdAt) < recheck {
		return recheck, nil // The cache has not seen the creation yet.
	}
	lower, err := r.find(ctx, upper)
	if err != nil {
		return 0, err
	}
	if lower != nil {
		return recheck, nil
	}
	if wanted, err := r.wanted(ctx, upper); err != nil || !wanted {
		return recheck, err
	}
	why := r.lastOf(upper)
	end := endingOf(r.Name, why)
	r.Log.Warn("Lower pod has gone, its upper pod fails", "pod", KeyOf(upper), "uid", upper.UID, "reason", end.reason)
	return 0, r.writeStatus(ctx, upper, withDisruption(failed(upper, end.reason, end.message, metav1.Now()), why))
}

// wanted asks the upper API server whether the pod is still to run. The news from above may be behind that from
// below, and a pod that is wanted no more does not fail.
func (r *Reconciler) wanted(ctx context.Context, upper *corev1.Pod) (bool, error) {
	now, err := r.Upper.Pods(upper.Namespace).Get(ctx, upper.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the upper pod: %w", err)
	}
	return now.UID == upper.UID && now.DeletionTimestamp == nil, nil
}
