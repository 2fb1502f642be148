package budgets

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// present is the mirror of an upper budget, nil if the cache has none.
func (k *Keeper) present(namespace, name string) *policyv1.PodDisruptionBudget {
	key := k.LowerName(namespace) + "/" + mirrorName(namespace, name, k.Identity, k.Name)
	object, ok, _ := k.mirrors.GetStore().GetByKey(key)
	if !ok {
		return nil
	}
	return object.(*policyv1.PodDisruptionBudget)
}

// selectedBelow are the lower pods that stay and that the mirror of a budget selects.
func (k *Keeper) selectedBelow(budget *policyv1.PodDisruptionBudget) []*corev1.Pod {
	if budget.Spec.Selector == nil {
		return nil // It selects nothing.
	}
	selector, err := metav1.LabelSelectorAsSelector(lowerSelector(budget.Spec.Selector, k.Identity, k.Name))
	if err != nil {
		return nil // The upper API server takes no such budget.
	}
	objects, err := k.Below.ByIndex(cache.NamespaceIndex, k.LowerName(budget.Namespace))
	if err != nil {
		k.Log.Error("Lower pods cannot be listed", "namespace", budget.Namespace, "err", err)
	}
	var selected []*corev1.Pod
	for _, object := range objects {
		pod := object.(*corev1.Pod)
		lives := !snapshot.Finished(pod) && pod.DeletionTimestamp == nil
		if lives && pod.Annotations[keys.UpperNamespace] == budget.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			selected = append(selected, pod)
		}
	}
	return selected
}

// concerns reports whether a budget selects pods that are below.
func (k *Keeper) concerns(budget *policyv1.PodDisruptionBudget) bool {
	return len(k.selectedBelow(budget)) > 0
}

// want is the mirror as it is to be, nil while that cannot be told yet.
func (k *Keeper) want(ctx context.Context, budget *policyv1.PodDisruptionBudget) (*policyv1.PodDisruptionBudget, time.Duration, error) {
	crowd, err := k.join(ctx, budget.Namespace)
	if err != nil {
		return nil, 0, fmt.Errorf("watching upper pods of %s: %w", budget.Namespace, err)
	}
	if !crowd.pods.HasSynced() {
		return nil, gather, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the selector of the budget: %w", err)
	}
	var selected []*corev1.Pod
	for _, object := range crowd.pods.GetStore().List() {
		if pod := object.(*corev1.Pod); selector.Matches(labels.Set(pod.Labels)) {
			selected = append(selected, pod)
		}
	}
	pods, on := survey(selected, budget.Status, k.Name)
	lower := k.selectedBelow(budget)
	pods.most = max(pods.most, len(lower))
	for _, pod := range lower {
		if ready(pod) {
			pods.below++
		}
	}
	now := time.Now()
	mine, next := turn(budget.UID, on, k.Name, k.takesPart(budget, slices.Contains(on, k.Name), now), now)
	var again time.Duration
	if !next.IsZero() {
		again = max(next.Sub(now), time.Millisecond)
	}
	least := minAvailable(budget.Status, pods, mine && observed(budget))
	return mirror(budget, k.LowerName(budget.Namespace), k.Identity, k.Name, least), again, nil
}

// takesPart notes from when on this virtual node has had pods of a budget.
func (k *Keeper) takesPart(budget *policyv1.PodDisruptionBudget, does bool, now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	since, known := k.since[budget.UID]
	switch {
	case !does:
		delete(k.since, budget.UID)
		return now
	case !known:
		since = now
		k.since[budget.UID] = now
	}
	return since
}

// write creates the mirror or changes it.
func (k *Keeper) write(ctx context.Context, present, want *policyv1.PodDisruptionBudget) error {
	budgets := k.Lower.PolicyV1().PodDisruptionBudgets(want.Namespace)
	if present == nil {
		if _, err := budgets.Create(ctx, want, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating budget below: %w", err)
		}
		return nil
	}
	if equality.Semantic.DeepEqual(present.Spec, want.Spec) && maps.Equal(present.Annotations, want.Annotations) {
		return nil
	}
	changed := present.DeepCopy()
	changed.Spec, changed.Annotations = want.Spec, want.Annotations
	if _, err := budgets.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing budget below: %w", err)
	}
	return nil
}

// remove deletes a mirror, that very one; nil is none.
func (k *Keeper) remove(ctx context.Context, present *policyv1.PodDisruptionBudget) error {
	if present == nil {
		return nil
	}
	k.mu.Lock()
	delete(k.since, types.UID(present.Annotations[keys.UpperUID]))
	k.mu.Unlock()
	err := k.Lower.PolicyV1().PodDisruptionBudgets(present.Namespace).Delete(ctx, present.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(present.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting budget below: %w", err)
	}
	return nil
}

// join has the pods of an upper namespace watched.
func (k *Keeper) join(ctx context.Context, namespace string) (*crowd, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.joined[namespace] = true
	return k.Crowds.join(ctx, namespace, k.Name, func() { k.lookAt(namespace) })
}

// leaveUnused ends the watches of namespaces in which no budget concerns this virtual node any more.
func (k *Keeper) leaveUnused() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for namespace := range k.joined {
		budgets, err := k.Budgets.PodDisruptionBudgets(namespace).List(labels.Everything())
		if err == nil && !slices.ContainsFunc(budgets, k.concerns) {
			k.Crowds.leave(namespace, k.Name)
			delete(k.joined, namespace)
		}
	}
}

func (k *Keeper) leaveAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for namespace := range k.joined {
		k.Crowds.leave(namespace, k.Name)
	}
}
