package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// reap deletes the objects of pods that were deleted and have ended, as a kubelet does. A stage of KWOK could do it, but
// KWOK 0.8.0 deletes by name alone: where a new pod has the name already, that one would go.
func (k *keeper) reap(ctx context.Context) {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 2*time.Second))
	add := func(object any) {
		if pod := object.(*corev1.Pod); hasEnded(pod) {
			queue.Add(pod.Namespace + "/" + pod.Name)
		}
	}
	_, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }})
	if err != nil {
		fmt.Println("reap:", err)
		return
	}
	for range 8 {
		go func() {
			for {
				key, quit := queue.Get()
				if quit {
					return
				}
				if err := k.reapOne(ctx, key); err != nil && ctx.Err() == nil {
					fmt.Println("reap:", err)
					queue.AddRateLimited(key)
				} else {
					queue.Forget(key)
				}
				queue.Done(key)
			}
		}()
	}
	<-ctx.Done()
	queue.ShutDown()
}

// reapOne deletes a pod, that very one, if it has ended on a node of ours.
func (k *keeper) reapOne(ctx context.Context, key string) error {
	object, ok, _ := k.pods.GetStore().GetByKey(key)
	if !ok || !hasEnded(object.(*corev1.Pod)) {
		return nil
	}
	pod := object.(*corev1.Pod)
	if !k.plays(pod.Spec.NodeName) {
		return nil
	}
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting pod %s: %w", key, err)
	}
	return nil
}

// hasEnded reports whether a deleted pod has nothing running. One whose grace is zero has been deleted for good already,
// and a finalizer keeps it.
func hasEnded(pod *corev1.Pod) bool {
	grace := pod.DeletionGracePeriodSeconds
	return pod.DeletionTimestamp != nil && grace != nil && *grace > 0 &&
		(pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed)
}
