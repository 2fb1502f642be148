package namespaces

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// How long it is until the next look at a namespace whose upper one has gone.
const (
	soon      = time.Second      // its objects are being counted
	occupied  = 5 * time.Second  // pods of ours are in it; also the first look at one that stays for another reason
	slowest   = 10 * time.Minute // the looks at such a one become as rare as this
	countsFor = time.Minute      // a quota that is older and does not count will not do so soon
)

// stays is why a namespace stays although its upper one has gone.
type stays struct {
	why         string
	since, next time.Time // since when that is so, and when the next look is due
}

// countObjects is the name of the quota that has the objects of a namespace counted.
const countObjects = "tessera-leaves"

// leave deletes a lower namespace whose upper one has gone, once it holds nothing but what every namespace has. That
// is a matter of what others may have put there, so everything is asked of the API servers, and whatever is not
// certain keeps the namespace.
func (k *Keeper) leave(ctx context.Context, lower *corev1.Namespace, of string) (again time.Duration, err error) {
	if wait := k.nextLook(lower.Name); wait > 0 {
		return wait, nil
	}
	_, err = k.Upper.CoreV1().Namespaces().Get(ctx, of, metav1.GetOptions{})
	if err == nil {
		return soon, nil // It has been made again, and the cache is behind.
	}
	if !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("reading the upper namespace %s: %w", of, err)
	}
	pods, err := k.Lower.CoreV1().Pods(lower.Name).List(ctx, metav1.ListOptions{Limit: 100})
	if err != nil {
		return 0, fmt.Errorf("listing pods of namespace %s below: %w", lower.Name, err)
	}
	if others := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Labels[keys.Upper] != k.Identity }); others >= 0 {
		return k.stay(ctx, lower.Name, "pod "+pods.Items[others].Name+" in it is not ours")
	}
	if len(pods.Items) > 0 {
		return occupied, nil
	}
	kinds, unknown := k.kinds()
	if unknown != "" {
		return k.stay(ctx, lower.Name, unknown)
	}
	quota, err := k.count(ctx, lower.Name, kinds)
	if err != nil {
		return 0, err
	}
	usual, err := k.usual(ctx, lower.Name)
	if err != nil {
		return 0, err
	}
	done, left := holds(quota, kinds, usual)
	if !done && time.Since(quota.CreationTimestamp.Time) < countsFor {
		return soon, nil
	}
	if !done {
		return k.stay(ctx, lower.Name, "the lower cluster's quota controller does not count what is in it")
	}
	if left != "" {
		return k.stay(ctx, lower.Name, "there are objects in it that are not ours: "+left)
	}
	return 0, k.remove(ctx, lower)
}

// remove deletes that very namespace, if nobody has changed it meanwhile.
func (k *Keeper) remove(ctx context.Context, lower *corev1.Namespace) error {
	preconditions := metav1.Preconditions{UID: &lower.UID, ResourceVersion: &lower.ResourceVersion}
	err := k.Lower.CoreV1().Namespaces().Delete(ctx, lower.Name, metav1.DeleteOptions{Preconditions: &preconditions})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting namespace %s below: %w", lower.Name, err)
	}
	k.Log.Info("Upper namespace has gone and nothing is left in the lower one, deleting it", "namespace", lower.Name, "uid", lower.UID)
	return nil
}

// stay leaves a namespace in peace for as long as it has stayed for that reason, and logs a new reason.
func (k *Keeper) stay(ctx context.Context, name, why string) (again time.Duration, err error) {
	now := time.Now()
	k.mu.Lock()
	state := k.stays[name]
	if state.why != why {
		state = stays{why: why, since: now}
		k.Log.Warn("Upper namespace has gone, the lower one stays", "namespace", name, "because", why)
	}
	again = min(max(now.Sub(state.since), occupied), slowest)
	state.next = now.Add(again)
	k.stays[name] = state
	k.mu.Unlock()
	return again, k.stopCounting(ctx, name)
}

// nextLook is how long a namespace is to be left in peace still.
func (k *Keeper) nextLook(name string) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Until(k.stays[name].next)
}

// count has the lower cluster count the objects of a namespace: a quota that forbids nothing shows how many of each
// kind there are. So nothing needs to be read that is none of our business, such as Secrets, and what is created while
// we look is counted as well.
func (k *Keeper) count(ctx context.Context, name string, kinds []string) (*corev1.ResourceQuota, error) {
	quotas := k.Lower.CoreV1().ResourceQuotas(name)
	quota, err := quotas.Get(ctx, countObjects, metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // An attempt to create one that exists would be counted by it.
		quota, err = quotas.Create(ctx, &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: countObjects, Labels: map[string]string{keys.Upper: k.Identity, keys.VirtualNode: k.Name}},
			Spec:       corev1.ResourceQuotaSpec{Hard: limits(kinds)},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("counting objects of namespace %s below: %w", name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counting[name] = true
	return quota, nil
}

func (k *Keeper) stopCounting(ctx context.Context, name string) error {
	k.mu.Lock()
	counting := k.counting[name]
	k.mu.Unlock()
	if !counting {
		return nil
	}
	err := k.Lower.CoreV1().ResourceQuotas(name).Delete(ctx, countObjects, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting quota %s/%s below: %w", name, countObjects, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.counting, name)
	return nil
}

// usual are the objects of a namespace that every namespace has, by the kind's name in a quota.
func (k *Keeper) usual(ctx context.Context, name string) (map[string]int64, error) {
	usual := map[string]int64{countPrefix + "resourcequotas": 1}
	_, account := k.Lower.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
	_, root := k.Lower.CoreV1().ConfigMaps(name).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
	for kind, err := range map[string]error{"serviceaccounts": account, "configmaps": root} {
		switch {
		case err == nil:
			usual[countPrefix+kind] = 1
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("reading what every namespace has in %s below: %w", name, err)
		}
	}
	return usual, nil
}

// kinds asks the lower API server which kinds of objects a namespace can have; unknown says why that cannot be told.
func (k *Keeper) kinds() (kinds []string, unknown string) {
	_, lists, err := k.Lower.Discovery().ServerGroupsAndResources()
	if err != nil {
		return nil, "not every kind of object is known: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return countable(lists)
}
