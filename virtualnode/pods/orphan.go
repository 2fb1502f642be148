package pods

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
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// What the owner of a pod is told of orphans, beside what every refusal is told by.
const (
	reasonOrphan  = keys.Reason("NameOfOrphan")
	reasonAdopted = "Adopted"
)

// countInterval is how often the lower pods without an upper one are counted.
const countInterval = time.Second

// countOrphans counts the orphans until ctx ends, and has those looked at that something is to be done about.
func (r *Reconciler) countOrphans(ctx context.Context) {
	ticker := time.NewTicker(countInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if r.Barred() || !r.changed.Swap(false) && len(r.Orphans.Orphans()) == 0 {
				continue // Nothing can have become an orphan, and none waits for its time.
			}
			found, unfinished := r.orphansBelow()
			for _, o := range r.Orphans.Survey(found, unfinished, now) {
				r.Look(o.UpperNamespace + "/" + o.UpperName)
			}
			r.Metrics.orphaned(r.Name, len(r.Orphans.Orphans()), r.Orphans.Brake() != "")
		}
	}
}

// orphansBelow are the lower pods of ours whose upper pod the cache does not have, and how many of all have not finished.
func (r *Reconciler) orphansBelow() (found []orphans.Orphan, unfinished int) {
	for _, object := range r.Below.List() {
		lower := object.(*corev1.Pod)
		finished := snapshot.Finished(lower)
		if !finished {
			unfinished++
		}
		upper := r.podAbove(pair.UpperKey(lower))
		if lower.DeletionTimestamp != nil || (upper != nil && upper.UID == pair.UpperUID(lower)) {
			continue
		}
		found = append(found, orphans.Orphan{
			Namespace: lower.Namespace, Name: lower.Name, UID: lower.UID, Finished: finished,
			UpperNamespace: lower.Annotations[keys.UpperNamespace], UpperName: lower.Annotations[keys.UpperName], UpperUID: pair.UpperUID(lower),
		})
	}
	return found, unfinished
}

// sawDeleted reports whether this process saw the deletion of the upper pod that lower, if any, stands for.
func (r *Reconciler) sawDeleted(lower *corev1.Pod) bool {
	return lower != nil && r.Orphans.HasSeen(pair.UpperUID(lower))
}

// alone deals with a lower pod whose upper pod is not there: step says whether its deletion was seen.
func (r *Reconciler) alone(ctx context.Context, next step, upper, lower *corev1.Pod) (again time.Duration, err error) {
	there, err := r.askAbove(ctx, lower)
	switch {
	case err != nil:
		return 0, err
	case r.standsFor(there, lower):
		return recheck, nil
	case next == collect:
		return 0, r.collect(ctx, lower)
	default:
		return 0, r.orphan(ctx, upper, there, lower)
	}
}

// collect deletes a lower pod whose upper pod this process saw being deleted.
func (r *Reconciler) collect(ctx context.Context, lower *corev1.Pod) error {
	r.Log.Info("Lower pod has no upper pod any more, deleting it", "pod", pair.UpperKey(lower), "uid", pair.UpperUID(lower))
	return r.deleteBelow(ctx, lower, nil)
}

// orphan deals with a lower pod whose upper pod is not there, without anybody having seen it go: the upper cluster may have
// been restored from a backup or built anew. Its container runs on until the grace is over, or until an upper pod that is
// equal takes it over.
//
// upper is the pod that the cache has under the name, there the one that the API server has; either may be nil.
func (r *Reconciler) orphan(ctx context.Context, upper, there, lower *corev1.Pod) error {
	r.Orphans.Confirm(lower.UID)
	due := r.Orphans.Due(lower.UID, time.Now())
	if upper != nil && there != nil && there.UID == upper.UID && r.needsLower(upper) && r.needsLower(there) {
		if adopted, err := r.adopt(ctx, upper, lower); adopted || err != nil {
			return err
		}
		if !due && !snapshot.Finished(lower) {
			return r.reports().Unplaced(ctx, upper, &up.Unplaced{Reason: reasonOrphan, Message: orphanHasName})
		}
		due = true // What has finished loses nothing, and its name is needed.
	}
	if !due {
		return nil // The survey brings us back.
	}
	return r.collectOrphan(ctx, lower)
}

// orphanHasName is told to the owner of a pod that waits.
const orphanHasName = "A pod without an owner runs in the lower cluster under this name and differs from this one; this one is created " +
	"when that one is collected: see `tessera orphans list`"

// needsLower reports whether an upper pod is to have a lower one.
func (r *Reconciler) needsLower(upper *corev1.Pod) bool {
	return upper.DeletionTimestamp == nil && !snapshot.Finished(upper) && r.Welcome(upper)
}

// askAbove asks the upper API server for the pod that has the name of a lower pod's upper one; nil if there is none.
// The cache may lag behind it, as after a start.
func (r *Reconciler) askAbove(ctx context.Context, lower *corev1.Pod) (*corev1.Pod, error) {
	namespace, name := lower.Annotations[keys.UpperNamespace], lower.Annotations[keys.UpperName]
	upper, err := r.Upper.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the upper pod: %w", err)
	}
	return upper, nil
}

// standsFor reports whether upper is the pod that lower stands for. One of that UID that is not bound here (a backup from before
// the binding) is not: it may be bound elsewhere any moment.
func (r *Reconciler) standsFor(upper, lower *corev1.Pod) bool {
	return upper != nil && upper.UID == pair.UpperUID(lower) && upper.Spec.NodeName == r.Name
}

// collectOrphan deletes an orphan as it was when that was decided: one that has been adopted since is left alone.
func (r *Reconciler) collectOrphan(ctx context.Context, lower *corev1.Pod) error {
	r.Log.Info("Orphan is collected", "pod", pair.UpperKey(lower), "uid", pair.UpperUID(lower))
	err := r.Lower.Pods(lower.Namespace).Delete(ctx, lower.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &lower.UID, ResourceVersion: &lower.ResourceVersion},
	})
	if apierrors.IsConflict(err) {
		return fmt.Errorf("collecting orphan: it has changed meanwhile: %w", err)
	}
	if err := pair.IgnoreGone(err); err != nil {
		return fmt.Errorf("collecting orphan: %w", err)
	}
	return nil
}

// adopt gives an orphan to the upper pod of the same name, if it was made from an equal one: its container goes on, and its
// status becomes that of its new owner. A pod that was deleted by force and made again by its StatefulSet while nobody looked
// cannot be told from one of a restored cluster; it is taken over too, and not restarted.
func (r *Reconciler) adopt(ctx context.Context, upper, lower *corev1.Pod) (adopted bool, err error) {
	wanted, err := translate.LowerPod(upper, r.Target())
	if err != nil {
		return false, fmt.Errorf("%w: %w", errSealed, err)
	}
	down.Stamp(wanted)
	if snapshot.Finished(lower) || !down.MadeFrom(lower, wanted) || lower.Namespace != wanted.Namespace {
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": lower.UID, "resourceVersion": lower.ResourceVersion, "annotations": map[string]string{keys.UpperUID: string(upper.UID)},
	}})
	if err != nil {
		return false, fmt.Errorf("adopting orphan: %w", err)
	}
	_, err = r.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return true, nil // It has changed: the event of that brings us back.
	}
	if err != nil {
		return false, fmt.Errorf("adopting orphan: %w", err)
	}
	r.Metrics.created(r.Name, "adopted", 0)
	r.Log.Info("Orphan has a new owner", "pod", pair.UpperKey(lower), "uid", upper.UID, "before", pair.UpperUID(lower))
	r.Events.Event(upper, corev1.EventTypeNormal, reasonAdopted, "Takes over the pod that runs in the lower cluster under this name")
	return true, nil
}
