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
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
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
	_, err := r.report(ctx, upper, lower, r.remember(pair.KeyOf(upper), upper))
	return err
}

func shorter(a, b *int64) bool { return a != nil && b != nil && *a < *b }

// deleteBelow deletes a lower pod of ours, that very one. nil grace is the pod's own.
func (r *Reconciler) deleteBelow(ctx context.Context, lower *corev1.Pod, grace *int64) error {
	err := r.Lower.Pods(lower.Namespace).Delete(ctx, lower.Name, metav1.DeleteOptions{
		GracePeriodSeconds: grace, Preconditions: metav1.NewUIDPreconditions(string(lower.UID)),
	})
	if err := pair.IgnoreGone(err); err != nil {
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
		if err := r.reports().Fail(ctx, upper, up.ReasonGone, "The pod was deleted and has ended below"); err != nil {
			return err
		}
	}
	err = r.Upper.Pods(upper.Namespace).Delete(ctx, upper.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(upper.UID)),
	})
	if err := pair.IgnoreGone(err); err != nil {
		return fmt.Errorf("removing pod above: %w", err)
	}
	return r.letGo(ctx, upper)
}

// stop ends a lower pod that runs although its upper pod is over, as a kubelet does: a lower cluster that went back to an earlier time,
// or somebody who writes phases, must not have what is over run again, beside what replaced it. Both API servers are asked.
func (r *Reconciler) stop(ctx context.Context, upper *corev1.Pod) (again time.Duration, err error) {
	now, err := r.Upper.Pods(upper.Namespace).Get(ctx, upper.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return recheck, nil
	case err != nil:
		return 0, fmt.Errorf("reading the upper pod: %w", err)
	case now.UID != upper.UID || !snapshot.Finished(now):
		return recheck, nil
	}
	lower, err := r.find(ctx, upper)
	if err != nil {
		return 0, err
	}
	if lower == nil || lower.DeletionTimestamp != nil || snapshot.Finished(lower) {
		return recheck, nil // The cache has not seen it yet.
	}
	r.Log.Warn("Pod is over above and runs below, ending it", "pod", pair.KeyOf(upper), "uid", upper.UID)
	return 0, r.deleteBelow(ctx, lower, nil)
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
	if lower.Labels[keys.Upper] != r.Target().Identity || pair.UpperUID(lower) != upper.UID {
		return nil, nil
	}
	return lower, nil
}

// replace says above that the lower pod has gone although nobody above wanted that.
func (r *Reconciler) replace(ctx context.Context, upper *corev1.Pod, memory *memory) (again time.Duration, err error) {
	if time.Since(memory.createdAt) < recheck {
		return recheck, nil // The cache has not seen the creation yet.
	}
	if again := r.absences.braked(upper.UID, r.Charged()); again > 0 {
		return again, nil
	}
	lower, err := r.find(ctx, upper)
	if err != nil {
		return 0, err
	}
	if lower != nil {
		return recheck, nil
	}
	if wanted, err := r.upperStillWanted(ctx, upper); err != nil || !wanted {
		return recheck, err
	}
	why := r.lastOf(upper)
	end := up.EndingOf(r.Name, why)
	evidence := end.Reason != up.ReasonGone || !r.nodeTakesPart(upper.Annotations[keys.LowerNode])
	if again := r.absences.take(upper.UID, evidence, r.Charged(), time.Now()); again > 0 {
		return again, nil
	}
	if again := r.comebacks.take(upper, time.Now()); again > 0 {
		return again, r.reports().Missing(ctx, upper, end.Reason,
			end.Message+". The pods of its controller end there again and again, so the next one is made later each time")
	}
	r.Log.Warn("Lower pod has gone, its upper pod fails", "pod", pair.KeyOf(upper), "uid", upper.UID, "reason", end.Reason)
	err = r.reports().WriteStatus(ctx, upper, up.WithDisruption(up.Failed(upper, end.Reason, end.Message, metav1.Now()), why))
	if err == nil {
		r.absences.done(upper.UID)
	}
	return 0, err
}

// Charged is how many pods are bound to the virtual node.
func (r *Reconciler) Charged() int { return len(r.Above.ListKeys()) }

// nodeTakesPart reports whether a lower node is there and takes pods; one that nobody knows is not.
func (r *Reconciler) nodeTakesPart(name string) bool { return name == "" || r.NodeUsable(name) }

// Missing says why upper pods whose lower ones are missing are not failed, "" if they are.
func (r *Reconciler) Missing() string { return r.absences.brake(r.Charged, r.Name) }

// Believe has all pods that are missing now be taken for gone, and those that are found missing within a while.
func (r *Reconciler) Believe(within time.Duration) {
	r.absences.believe(time.Now().Add(within))
	r.WakeAll()
}

// upperStillWanted asks the upper API server whether the pod is still to run. The news from above may be behind that from
// below, and a pod that is wanted no more does not fail.
func (r *Reconciler) upperStillWanted(ctx context.Context, upper *corev1.Pod) (bool, error) {
	now, err := r.Upper.Pods(upper.Namespace).Get(ctx, upper.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the upper pod: %w", err)
	}
	return now.UID == upper.UID && now.DeletionTimestamp == nil, nil
}

// Gone notes how a lower pod was when it went. Why it ended stands in its last status, which no cache has any more when
// its turn comes. Losing the note costs a reason, not more. seen: its deletion was told, not just that it is not there any more.
func (r *Reconciler) Gone(lower *corev1.Pod, seen bool) {
	if seen {
		r.absences.saw(pair.UpperUID(lower), time.Now())
	}
	if up.EndingOf(r.Name, lower.Status.Conditions).Reason == up.ReasonGone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[pair.UpperKey(lower)] = lower
}

// lastOf is the noted status of the lower pod that stood for upper, nil if there is none.
func (r *Reconciler) lastOf(upper *corev1.Pod) []corev1.PodCondition {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.last[pair.KeyOf(upper)]; last != nil && pair.UpperUID(last) == upper.UID {
		return last.Status.Conditions
	}
	return upper.Status.Conditions
}
