package lifecycles

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// brings: it names a Secret of its own, made before it or after it, which changes while it runs and goes when it has gone; a Service and
// a NetworkPolicy select it, and go before it.
func (d *driver) brings(ctx context.Context, name string, random *rand.Rand) error {
	pod := plainPod(name)
	pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{
		SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
	}}
	late := random.IntN(2) == 0
	if !late {
		if err := d.putSecret(ctx, name, "first"); err != nil {
			return err
		}
	}
	if err := d.selects(ctx, name); err != nil {
		return err
	}
	i, err := d.create(ctx, "brings", pod)
	if err != nil {
		return err
	}
	if late {
		pause(ctx, random, 300*time.Millisecond)
		if err := d.putSecret(ctx, name, "first"); err != nil {
			return err
		}
	}
	d.sees(ctx, i, "running", running)
	d.secretIs(ctx, i, "first")
	if err := d.putSecret(ctx, name, "second"); err != nil {
		return err
	}
	d.secretIs(ctx, i, "second")
	d.selected(ctx, i, true)
	if err := d.unselect(ctx, name); err != nil {
		return err
	}
	d.selected(ctx, i, false)
	if err := d.end(ctx, i, nil); err != nil {
		return err
	}
	d.secretIs(ctx, i, "")
	return nil
}

// selects makes a Service and a NetworkPolicy above that select pods of a name; unselect takes them away.
func (d *driver) selects(ctx context.Context, name string) error {
	labels := map[string]string{"app": name}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: labels}},
	}
	err := d.until(ctx, func(ctx context.Context) error {
		_, err := d.upper.CoreV1().Services(d.namespace).Create(ctx, service, metav1.CreateOptions{})
		return ignore(apierrors.IsAlreadyExists, err)
	})
	if err != nil {
		return fmt.Errorf("creating Service %s: %w", name, err)
	}
	err = d.until(ctx, func(ctx context.Context) error {
		_, err := d.upper.NetworkingV1().NetworkPolicies(d.namespace).Create(ctx, policy, metav1.CreateOptions{})
		return ignore(apierrors.IsAlreadyExists, err)
	})
	if err != nil {
		return fmt.Errorf("creating NetworkPolicy %s: %w", name, err)
	}
	return nil
}

func (d *driver) unselect(ctx context.Context, name string) error {
	err := d.until(ctx, func(ctx context.Context) error {
		service := d.upper.CoreV1().Services(d.namespace).Delete(ctx, name, metav1.DeleteOptions{})
		policy := d.upper.NetworkingV1().NetworkPolicies(d.namespace).Delete(ctx, name, metav1.DeleteOptions{})
		return errors.Join(ignore(apierrors.IsNotFound, service), ignore(apierrors.IsNotFound, policy))
	})
	if err != nil {
		return fmt.Errorf("deleting Service and NetworkPolicy %s: %w", name, err)
	}
	return nil
}

func ignore(is func(error) bool, err error) error {
	if is(err) {
		return nil
	}
	return err
}

// selected waits until both are below, or neither is; what is waited for in vain is the trouble of the instance.
func (d *driver) selected(ctx context.Context, i *instance, want bool) {
	err := poll(ctx, func(ctx context.Context) error {
		_, service := d.lower.CoreV1().Services(d.namespace).Get(ctx, i.name, metav1.GetOptions{})
		_, policy := d.lower.NetworkingV1().NetworkPolicies(d.namespace).Get(ctx, i.name, metav1.GetOptions{})
		if want {
			return errors.Join(service, policy)
		}
		for what, err := range map[string]error{"Service": service, "NetworkPolicy": policy} {
			if err == nil {
				return fmt.Errorf("its %s is still below", what)
			}
			if !apierrors.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
	d.note(i, err)
}

// putSecret gives a Secret above that content.
func (d *driver) putSecret(ctx context.Context, name, content string) error {
	secrets := d.upper.CoreV1().Secrets(d.namespace)
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"x": content}}
	patch := fmt.Appendf(nil, `{"stringData":{"x":%q}}`, content)
	err := d.until(ctx, func(ctx context.Context) error {
		_, err := secrets.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			_, err = secrets.Create(ctx, object, metav1.CreateOptions{})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("writing Secret %s: %w", name, err)
	}
	return nil
}

// secretIs waits until the Secret of an instance has that content below, "" for none; what is waited for in vain is its trouble.
func (d *driver) secretIs(ctx context.Context, i *instance, content string) {
	err := poll(ctx, func(ctx context.Context) error {
		found, err := d.lower.CoreV1().Secrets(d.namespace).Get(ctx, i.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && content == "":
			return nil
		case err != nil:
			return err
		case string(found.Data["x"]) != content:
			return fmt.Errorf("its Secret is %q below, want %q", found.Data["x"], content)
		}
		return nil
	})
	d.note(i, err)
}
