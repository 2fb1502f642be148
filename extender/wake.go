package extender

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// waiter is a pod that no virtual node took when it was last asked about.
type waiter struct {
	pod   *corev1.Pod
	nodes []*corev1.Node // the virtual nodes it was asked about
	woken time.Time
}

// Times of waking. A pod that was woken is left alone for a while, as the scheduler needs time to come to it.
const (
	wakeEvery = 100 * time.Millisecond
	wakeAgain = 2 * time.Second
)

// wait notes a refused pod. The caller holds e.mu.
func (e *Extender) wait(pod *corev1.Pod, verdicts []verdict) {
	w := &waiter{pod: pod}
	if before := e.waiting[pod.UID]; before != nil {
		w.woken = before.woken
	}
	for _, v := range verdicts {
		w.nodes = append(w.nodes, v.node)
	}
	e.waiting[pod.UID] = w
	for _, v := range verdicts {
		if v.Reason == keys.Stale || v.Reason == keys.Avoided || v.Reason == keys.NotSynced {
			time.AfterFunc(wakeAgain, e.touch) // These end by the clock or by a probe, not by a snapshot.
			break
		}
	}
}

// wake makes the scheduler try waiting pods again when room for them has appeared: by a change of an annotation
// of exactly those pods, because a change of a node would wake every refused pod of the cluster.
func (e *Extender) wake(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		}
		for _, pod := range e.fitNow(time.Now()) {
			e.annotate(ctx, pod)
		}
		if !sleep(ctx, wakeEvery) {
			return nil
		}
	}
}

// fitNow returns the waiting pods that fit now, all of them together: by priority, then age.
func (e *Extender) fitNow(now time.Time) []*corev1.Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	var fitting []*corev1.Pod
	var trial []types.UID // Holds of this question alone, given back at its end.
	recent := false
	for _, w := range slices.SortedFunc(maps.Values(e.waiting), sooner) {
		verdicts := e.judge(now, w.pod, w.nodes, e.compileAll(w.pod, w.nodes))
		if len(verdicts) == 0 || !verdicts[0].Fits || e.pool.Hold(w.pod.UID) != nil {
			continue
		}
		e.pool.Offer(now, w.pod.UID, infoOf(w.pod), verdicts[0].pod, verdicts[0].Verdict)
		trial = append(trial, w.pod.UID)
		if now.Sub(w.woken) < wakeAgain {
			recent = true
			continue
		}
		w.woken = now
		fitting = append(fitting, w.pod)
	}
	for _, uid := range trial {
		e.pool.Release(uid)
	}
	if recent || len(fitting) > 0 {
		time.AfterFunc(wakeAgain, e.touch) // Until the scheduler has come to them.
	}
	return fitting
}

// sooner orders waiting pods: the higher priority first, then the older.
func sooner(a, b *waiter) int {
	return cmp.Or(
		cmp.Compare(corev1helpers.PodPriority(b.pod), corev1helpers.PodPriority(a.pod)),
		a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

func (e *Extender) annotate(ctx context.Context, pod *corev1.Pod) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         pod.UID,
		"annotations": map[string]string{keys.Wake: time.Now().UTC().Format(time.RFC3339Nano)},
	}})
	if err == nil {
		_, err = e.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	switch {
	case err == nil:
		e.metrics.wakes.Inc()
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		e.mu.Lock()
		delete(e.waiting, pod.UID)
		e.mu.Unlock()
	case ctx.Err() == nil:
		e.log.Error("Waking a pod failed, trying again", "namespace", pod.Namespace, "name", pod.Name, "err", err)
	}
}
