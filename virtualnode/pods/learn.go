package pods

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// What is learnt of a refusal holds for the next pods of the same template. Not learnt is what has to do with the one pod or the
// moment (its name, a quota that is used up), and what the extender sees for itself.
var learnt = []keys.Reason{keys.RefusedBelow, keys.RuntimeClass, keys.PriorityClass}

// learntOfBrought is learnt for what a pod brings along, which is of the template, too.
var learntOfBrought = []keys.Reason{keys.RefusedBelow, keys.NameConflict, keys.NetworkPolicy}

// hangs are the reasons for which a pod that was made finds no node, and the next ones would not either.
var hangs = []keys.Reason{keys.NotScheduled, keys.Gated, keys.Unschedulable}

// refused learns that a pod was not created. A dry run of the pod tells nothing of what it brings along.
func (r *Reconciler) refused(failed failure, reason keys.Reason) {
	brought := errors.Is(failed.err, errBrought)
	switch {
	case failed.sent == nil:
	case brought && slices.Contains(learntOfBrought, reason), !brought && slices.Contains(learnt, reason):
		r.Refusals.Learn(failed.sent, reason, !brought, time.Now())
	}
}

// accepted learns that a pod was created. That it also finds a node is another matter.
func (r *Reconciler) accepted(lower *corev1.Pod) {
	r.Refusals.Forget(lower, slices.Concat(learnt, learntOfBrought)...)
}

// placed learns what becomes of a lower pod: that it found a node, or that it cannot for a reason that the next ones have as well.
// Nobody having looked at it is one; that no node was found is one where admission below has narrowed where the pod may go.
func (r *Reconciler) placed(upper, lower *corev1.Pod, why *up.Unplaced) {
	told := pair.Condition(upper, keys.LowerScheduled)
	news := lower.Spec.NodeName != "" && (told == nil || told.Status != corev1.ConditionTrue)
	if !news && (why == nil || !slices.Contains(hangs, why.Reason)) {
		return
	}
	sent, err := translate.LowerPod(upper, r.Target())
	switch {
	case err != nil:
	case news:
		r.Refusals.Forget(sent, hangs...)
	case why.Reason != keys.Unschedulable || narrowed(sent, lower):
		r.Refusals.Learn(sent, why.Reason, false, time.Now())
	}
}

// narrowed reports whether a stored pod may go to fewer nodes than the one that was sent.
func narrowed(sent, stored *corev1.Pod) bool {
	required := func(p *corev1.Pod) *corev1.NodeSelector {
		if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
			return nil
		}
		return p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return !maps.Equal(sent.Spec.NodeSelector, stored.Spec.NodeSelector) ||
		!equality.Semantic.DeepEqual(required(sent), required(stored)) && stored.Annotations[keys.HintNode] == "" // Else it may be our own hint.
}

// tryInterval is between two looks at whether some refusal is to be tried.
const tryInterval = 10 * time.Second

// tryRefusals asks from time to time, without making a pod, whether what was refused is refused still, until ctx ends.
func (r *Reconciler) tryRefusals(ctx context.Context) {
	ticker := time.NewTicker(tryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if r.Barred() || !r.Reachable() {
			continue
		}
		for _, pod := range r.Refusals.Due(time.Now()) {
			r.try(ctx, pod)
		}
	}
}

func (r *Reconciler) try(ctx context.Context, refused *corev1.Pod) {
	ctx, cancel := context.WithTimeout(ctx, tryInterval)
	defer cancel()
	pod := refused.DeepCopy()
	pod.Name, pod.GenerateName = "", "tessera-try-"
	if _, err := r.Lower.Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		r.Log.Debug("Pods of a kind are still refused below", "namespace", pod.Namespace, "name", refused.Name, "err", err)
		return
	}
	r.Log.Info("Pods of a kind are not refused any more", "namespace", pod.Namespace, "name", refused.Name)
	r.Refusals.Forget(refused, learnt...)
}
