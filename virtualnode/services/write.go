package services

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// errStale is a cache that does not show yet what was written last.
var errStale = errors.New("the cache of slices is behind")

// lowerService is a lower Service of ours by its own namespace/name, nil if the cache has none.
func (k *Keeper) lowerService(key string) *corev1.Service {
	object, ok, _ := k.services.GetStore().GetByKey(key) // A cache never fails.
	if !ok {
		return nil
	}
	return object.(*corev1.Service)
}

// cached is the lower Service of an upper one, nil if the cache has none.
func (k *Keeper) cached(key string) *corev1.Service {
	namespace, name, _ := strings.Cut(key, "/")
	lower := k.lowerService(k.LowerName(namespace) + "/" + name)
	if lower == nil || pair.UpperKey(lower) != key {
		return nil
	}
	return lower
}

// put makes the Service below equal to the upper one, and returns it; nil if it will be looked at again.
func (k *Keeper) put(ctx context.Context, upper *corev1.Service) (*corev1.Service, error) {
	if _, err := k.Room(ctx, upper.Namespace); err != nil {
		return nil, err
	}
	wanted := translate.LowerService(upper, k.Target(), !k.Flat)
	present := k.cached(upper.Namespace + "/" + upper.Name)
	if present == nil {
		pair.SetUsers(wanted, []string{k.Name})
		created, err := k.Lower.CoreV1().Services(wanted.Namespace).Create(ctx, wanted, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return created, doing("creating", wanted, err)
		}
		if present, err = k.Lower.CoreV1().Services(wanted.Namespace).Get(ctx, wanted.Name, metav1.GetOptions{}); err != nil {
			return nil, doing("reading", wanted, err)
		}
		if present.Labels[keys.Upper] != k.identity || pair.UpperKey(present) != upper.Namespace+"/"+upper.Name {
			return nil, doing("creating", wanted, pair.ErrForeign)
		}
	}
	if present.DeletionTimestamp != nil {
		return nil, nil // Its deletion brings us back.
	}
	next := merged(wanted, present, k.Name)
	switch {
	case equality.Semantic.DeepEqual(next, present):
		return present, nil
	case translate.Headless(wanted) != translate.Headless(present):
		return nil, k.remove(ctx, present) // That cannot be changed: it is made anew.
	}
	updated, err := k.Lower.CoreV1().Services(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	return updated, doing("updating", next, err)
}

// merged is the Service below as it is to be, with what its own cluster gave it.
func merged(wanted, present *corev1.Service, user string) *corev1.Service {
	next := present.DeepCopy()
	next.Labels, next.Annotations, next.Spec = wanted.Labels, wanted.Annotations, wanted.Spec
	pair.SetUsers(next, pair.WithUser(pair.Users(present), user))
	if !translate.Headless(wanted) && wanted.Spec.Type == present.Spec.Type && wanted.Spec.Type == corev1.ServiceTypeClusterIP {
		next.Spec.ClusterIP = present.Spec.ClusterIP
	}
	if wanted.Spec.Type == corev1.ServiceTypeClusterIP && present.Spec.Type == corev1.ServiceTypeClusterIP {
		next.Spec.ClusterIPs = present.Spec.ClusterIPs
	}
	if len(next.Spec.IPFamilies) == 0 {
		next.Spec.IPFamilies = present.Spec.IPFamilies
	}
	if next.Spec.IPFamilyPolicy == nil {
		next.Spec.IPFamilyPolicy = present.Spec.IPFamilyPolicy
	}
	return next
}

// drop takes a Service away, or says on it that this virtual node does not need it, where others do. Its slices go with it.
func (k *Keeper) drop(ctx context.Context, key string) error {
	if present := k.cached(key); present != nil {
		return k.leave(ctx, present)
	}
	return nil
}

// leave is drop for a lower Service.
func (k *Keeper) leave(ctx context.Context, present *corev1.Service) error {
	gone, err := pair.Leave(ctx, k.Lower.CoreV1().Services(present.Namespace), present, k.Name)
	if err != nil || !gone {
		return doing("taking away", present, err)
	}
	return k.forget(ctx, present)
}

// remove deletes a Service as it was seen.
func (k *Keeper) remove(ctx context.Context, lower *corev1.Service) error {
	if err := pair.Remove(ctx, k.Lower.CoreV1().Services(lower.Namespace), lower); err != nil {
		return doing("deleting", lower, err)
	}
	return k.forget(ctx, lower)
}

// forget takes the slices of a Service away that is deleted, which a collector below would get to later.
func (k *Keeper) forget(ctx context.Context, lower *corev1.Service) error {
	for _, slice := range k.slicesOf(lower) {
		if err := k.removeSlice(ctx, slice); err != nil {
			return err
		}
	}
	k.tracker.DeleteService(lower.Namespace, lower.Name)
	return nil
}

func (k *Keeper) removeSlice(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	err := k.Lower.DiscoveryV1().EndpointSlices(slice.Namespace).Delete(ctx, slice.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting EndpointSlice %s/%s below: %w", slice.Namespace, slice.Name, err)
	}
	return nil
}

// slicesOf are our slices of a lower Service.
func (k *Keeper) slicesOf(lower *corev1.Service) (found []*discoveryv1.EndpointSlice) {
	objects, _ := k.slices.GetIndexer().ByIndex(bySliceService, lower.Namespace+"/"+lower.Name) // The index exists.
	for _, object := range objects {
		found = append(found, object.(*discoveryv1.EndpointSlice))
	}
	return found
}

// putSlices brings the slices of a lower Service in line: those made from pods, and those that are copies of upper ones.
func (k *Keeper) putSlices(ctx context.Context, upper, lower *corev1.Service) error {
	if k.Flat && !k.Hub.first(k.Member) || lower.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var made, copied []*discoveryv1.EndpointSlice
	for _, slice := range k.slicesOf(lower) {
		if translate.Mirrored(slice) {
			copied = append(copied, slice)
		} else {
			made = append(made, slice)
		}
	}
	if err := k.copySlices(ctx, upper, lower, copied); err != nil {
		return err
	}
	if !k.Flat || len(upper.Spec.Selector) == 0 {
		for _, slice := range made { // It had a selector before, or the network was flat.
			if err := k.removeSlice(ctx, slice); err != nil {
				return err
			}
		}
		return nil
	}
	if k.tracker.StaleSlices(lower, made) {
		return errStale
	}
	pods := k.Hub.endpoints(upper, k.Cluster(), lower.Namespace)
	if err := k.reconciler.Reconcile(klog.FromContext(ctx), lower, pods, made, triggered(pods, made)); err != nil {
		return fmt.Errorf("writing slices of Service %s/%s below: %w", lower.Namespace, lower.Name, err)
	}
	return nil
}

// triggered is when the change was that is about to be written, as far as pods tell: the annotation
// endpoints.kubernetes.io/last-change-trigger-time is made from it.
func triggered(pods []*corev1.Pod, made []*discoveryv1.EndpointSlice) (last time.Time) {
	var written time.Time
	for _, slice := range made {
		if at, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil && at.After(written) {
			written = at
		}
	}
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.LastTransitionTime.After(last) {
				last = c.LastTransitionTime.Time
			}
		}
	}
	if !last.After(written) {
		return time.Time{}
	}
	return last
}

// copySlices brings down the upper slices of a Service, without endpoints that are pods of virtual nodes: those are known better from
// the pods. In isolated clusters none that is a pod comes, and none at all of Services with a selector.
func (k *Keeper) copySlices(ctx context.Context, upper, lower *corev1.Service, present []*discoveryv1.EndpointSlice) error {
	target := k.Target()
	keep := func(endpoint *discoveryv1.Endpoint) bool {
		if !k.Flat && endpoint.TargetRef != nil && endpoint.TargetRef.Kind == "Pod" {
			return false
		}
		return endpoint.NodeName == nil || !k.Hub.virtual(*endpoint.NodeName)
	}
	wanted := map[string]*discoveryv1.EndpointSlice{}
	if k.Flat || len(upper.Spec.Selector) == 0 {
		for _, slice := range k.Upper.slicesOf(upper.Namespace + "/" + upper.Name) {
			if copied := translate.LowerSlice(slice, lower, target, keep); len(copied.Endpoints) > 0 {
				wanted[copied.Name] = copied
			}
		}
	}
	for _, slice := range present {
		next := wanted[slice.Name]
		delete(wanted, slice.Name)
		if err := k.copySlice(ctx, slice, next); err != nil {
			return err
		}
	}
	for _, slice := range wanted {
		if _, err := k.Lower.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating EndpointSlice %s/%s below: %w", slice.Namespace, slice.Name, err)
		}
	}
	return nil
}

// copySlice brings one that is there in line with what is wanted, nil for nothing. The family of its addresses cannot be changed.
func (k *Keeper) copySlice(ctx context.Context, present, wanted *discoveryv1.EndpointSlice) error {
	if wanted == nil || wanted.AddressType != present.AddressType {
		return k.removeSlice(ctx, present)
	}
	next := present.DeepCopy()
	next.Labels, next.Annotations, next.OwnerReferences = wanted.Labels, wanted.Annotations, wanted.OwnerReferences
	next.Endpoints, next.Ports = wanted.Endpoints, wanted.Ports
	if equality.Semantic.DeepEqual(next, present) {
		return nil
	}
	if _, err := k.Lower.DiscoveryV1().EndpointSlices(next.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating EndpointSlice %s/%s below: %w", next.Namespace, next.Name, err)
	}
	return nil
}

// clear takes away what an earlier configuration left below.
func (k *Keeper) clear(ctx context.Context) {
	pair.Clear(ctx, k.Log, "Services", func() bool { return k.Barred() || !k.Reachable() }, func(ctx context.Context) error {
		found, err := k.Lower.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: labels.Set{keys.Upper: k.identity}.String()})
		if err != nil {
			return fmt.Errorf("listing Services below: %w", err)
		}
		for i := range found.Items {
			if err := k.leave(ctx, &found.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// nodes gives the reconciler the node of every pod: it wants to know the zone alone.
type nodes func(node string) (zone string)

func (n nodes) List(labels.Selector) ([]*corev1.Node, error) { return nil, nil }

func (n nodes) Get(name string) (*corev1.Node, error) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if zone := n(name); zone != "" {
		node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return node, nil
}

var _ corelisters.NodeLister = nodes(nil)

func doing(what string, service *corev1.Service, err error) error {
	return pair.Doing(what, "Service", service, err)
}
