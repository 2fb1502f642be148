package lifecycles

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownNamespace: it brings a namespace of its own along, with a Secret, a Service and a NetworkPolicy, which is deleted above as it stands.
func (d *driver) ownNamespace(ctx context.Context, name string, random *rand.Rand) error {
	own := &driver{lab: d.lab, upper: d.upper, lower: d.lower, namespace: name, node: d.node, progress: d.progress}
	err := d.until(ctx, func(ctx context.Context) error {
		return ignore(apierrors.IsAlreadyExists, makeNamespace(ctx, d.upper, name))
	})
	if err != nil {
		return err
	}
	if err := errors.Join(own.putSecret(ctx, name, "first"), own.selects(ctx, name)); err != nil {
		return err
	}
	pod := plainPod(name)
	pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{
		SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
	}}
	i, err := own.create(ctx, "namespace", pod)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.instances = append(d.instances, i)
	d.mu.Unlock()
	d.note(i, poll(ctx, func(ctx context.Context) error {
		pod, err := d.upper.CoreV1().Pods(name).Get(ctx, name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	}))
	own.selected(ctx, i, true)
	own.secretIs(ctx, i, "first")
	pause(ctx, random, 300*time.Millisecond)
	i.deleted = true
	err = d.until(ctx, func(ctx context.Context) error {
		return ignore(apierrors.IsNotFound, d.upper.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}))
	})
	if err != nil {
		return fmt.Errorf("deleting namespace %s: %w", name, err)
	}
	d.note(i, d.emptied(ctx, name))
	return nil
}

// emptied waits until a namespace has gone below. Its own cluster's controller may have been interrupted in it by the kill of an API
// server, and tries again with pauses of up to a minute.
func (d *driver) emptied(ctx context.Context, name string) (err error) {
	for range 3 {
		err = poll(ctx, func(ctx context.Context) error {
			_, err := d.lower.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				return errors.New("its namespace is still below")
			}
			return ignore(apierrors.IsNotFound, err)
		})
		if err == nil {
			return nil
		}
	}
	return err
}
