package virtualnode_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// fewest watches how many pods of a namespace are ready and stay, and remembers the fewest from the moment on when all were.
type fewest struct {
	mu         sync.Mutex
	ready      map[types.UID]bool
	all, least int // least is -1 before all were ready
}

func (f *fewest) take(event watch.Event) {
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if event.Type != watch.Deleted && pod.DeletionTimestamp == nil &&
		conditionOf(pod.Status.Conditions, corev1.PodReady).Status == corev1.ConditionTrue {
		f.ready[pod.UID] = true
	} else {
		delete(f.ready, pod.UID)
	}
	switch n := len(f.ready); {
	case f.least < 0 && n >= f.all:
		f.least = n
	case f.least >= 0:
		f.least = min(f.least, n)
	}
}

func (f *fewest) now() (ready, least int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ready), f.least
}

// drainTwoNodes drains two of three lower nodes at once under a budget above that lets one pod be away: never are more
// away, and the drain comes to its end.
func drainTwoNodes(t *testing.T, w *world) {
	const replicas = 4
	w.T = t
	w.optedIn("drained", nil)
	lower := w.lower(1)
	third := w.lab.NodeName(1, 3)
	cordon(t, w, third, true) // All pods come to the two nodes first.
	watcher, err := w.upper.CoreV1().Pods(w.ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := &fewest{ready: map[types.UID]bool{}, all: replicas, least: -1}
	go func() {
		for event := range watcher.ResultChan() {
			seen.take(event)
		}
	}()
	web := map[string]string{"app": "web"}
	template := w.pod("web", 1)
	count, one := int32(replicas), intstr.FromInt32(1)
	if _, err := w.upper.AppsV1().Deployments(w.ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &count, Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: template.Spec},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.upper.PolicyV1().PodDisruptionBudgets(w.ns).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: web}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		if ready, _ := seen.now(); ready != replicas {
			return fmt.Errorf("%d pods are ready, want %d", ready, replicas)
		}
		mirrors, err := lower.PolicyV1().PodDisruptionBudgets(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: keys.Upper})
		if err == nil && len(mirrors.Items) != 1 {
			err = fmt.Errorf("%d budgets below", len(mirrors.Items))
		}
		return err
	})
	cordon(t, w, third, false)
	cordon(t, w, w.lab.NodeName(1, 1), true)
	cordon(t, w, w.lab.NodeName(1, 2), true)
	granted := 0
	lab.Eventually(t, 4*patience, func() error { return evictAll(t.Context(), w, third, &granted) })
	w.eventually(func() error {
		if ready, _ := seen.now(); ready != replicas {
			return fmt.Errorf("%d pods are ready after the drain, want %d", ready, replicas)
		}
		return nil
	})
	if _, least := seen.now(); least < replicas-1 || granted < replicas {
		t.Errorf("%d evictions were granted, and there was a moment with %d ready pods of %d, of which one may be away", granted, least, replicas)
	}
	if err := w.upper.CoreV1().Namespaces().Delete(t.Context(), w.ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 2*patience, func() error {
		if _, err := lower.CoreV1().Namespaces().Get(t.Context(), w.ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the namespace is still below: %w", err)
		}
		return nil
	})
}

func cordon(t *testing.T, w *world, node string, on bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on)
	if _, err := w.lower(1).CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// evictAll tries once to evict every pod that is not on the node that stays, as two drains at once would. It returns
// what is left to do.
func evictAll(ctx context.Context, w *world, stays string, granted *int) error {
	lower := w.lower(1)
	pods, err := lower.CoreV1().Pods(w.ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	left := 0
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, pod := range pods.Items {
		if pod.Spec.NodeName == stays {
			continue
		}
		left++
		group.Go(func() {
			eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
			if err := lower.CoreV1().Pods(w.ns).EvictV1(ctx, eviction); err == nil {
				mu.Lock()
				*granted++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if left > 0 || len(pods.Items) == 0 {
		return fmt.Errorf("%d of %d pods are still to be drained", left, len(pods.Items))
	}
	return nil
}
