package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nudgeAnnotation is changed on a pod that KWOK seems to have overlooked.
const nudgeAnnotation = "lab.tessera.sh/nudge"

// Times of nudging. overlooked is far above the time that KWOK needs to come to a pod, unless it has a thousand at once: hence
// some nudgeMost of them alone, or nudging would slow it down even more.
const (
	nudgeEvery = 2 * time.Second
	overlooked = 3 * time.Second
	nudgeMost  = 20
)

// nudge makes KWOK look again at pods that it has not taken up. KWOK 0.8.0 acts on events alone: one that it drops (the
// pod came before its node was known) or loses leaves the pod as it is for ever, about once in some thousand pods here.
func (k *keeper) nudge(ctx context.Context) {
	tick := time.NewTicker(nudgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.nudgeAll(ctx, time.Now()); err != nil && ctx.Err() == nil {
			fmt.Println("nudge:", err) // the next round tries again
		}
	}
}

func (k *keeper) nudgeAll(ctx context.Context, now time.Time) error {
	var found []*corev1.Pod
	for _, object := range k.pods.GetStore().List() {
		if pod := object.(*corev1.Pod); k.plays(pod.Spec.NodeName) && isOverlooked(pod, now) {
			found = append(found, pod)
		}
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] }) // Nudging does not help all of them.
	for _, pod := range found[:min(len(found), nudgeMost)] {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, nudgeAnnotation, now.UTC().Format(time.RFC3339))
		_, err := k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("nudging pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		fmt.Printf("nudge: pod %s/%s was overlooked\n", pod.Namespace, pod.Name)
	}
	return nil
}

// isOverlooked reports whether nothing has happened to a pod since it was bound, or since its grace period ended.
func isOverlooked(pod *corev1.Pod, now time.Time) bool {
	if pod.DeletionTimestamp != nil {
		return now.Sub(pod.DeletionTimestamp.Time) > overlooked
	}
	bound := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.LastTransitionTime.After(bound) {
			bound = c.LastTransitionTime.Time
		}
	}
	return pod.Status.Phase == corev1.PodPending && pod.Status.StartTime == nil && len(pod.Status.ContainerStatuses) == 0 &&
		now.Sub(bound) > overlooked
}
