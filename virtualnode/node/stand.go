package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// virtual-kubelet writes the status and the labels of a Node, and makes one at the start. What else a virtual node needs to stand
// as it should is here: that it is there at all, its taints, and its provider ID.

// stand has the Node stand as wanted says. It costs no call where it does.
func (k *Keeper) stand(ctx context.Context, wanted *corev1.Node) error {
	node, known := k.Standing()
	if !known {
		return nil
	}
	if node == nil {
		return k.restore(ctx, wanted)
	}
	k.seen.Store(node)
	wanted = k.evicting(node, wanted)
	if node.DeletionTimestamp != nil || equality.Semantic.DeepEqual(node.Spec, k.spec(node, wanted)) {
		return nil
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
		defer cancel()
		now, err := ownNodes{k.Client.CoreV1().Nodes()}.NodeInterface.Get(ctx, k.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := owned(now, k.Name); err != nil {
			return err
		}
		spec := k.spec(now, wanted)
		if equality.Semantic.DeepEqual(now.Spec, spec) {
			return nil
		}
		now.Spec = spec
		_, err = k.Client.CoreV1().Nodes().Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) { // The event of its deletion brings us back.
		return fmt.Errorf("writing taints of node %s: %w", k.Name, err)
	}
	return nil
}

// overwritten reports whether somebody has written other conditions over ours: node-lifecycle does when virtualnode was away, and
// nobody but us takes that back.
func (k *Keeper) overwritten(last *corev1.Node) bool {
	node, known := k.Standing()
	if !known || node == nil {
		return false
	}
	return slices.ContainsFunc(last.Status.Conditions, func(ours corev1.NodeCondition) bool {
		return ours.Type != corev1.NodeNetworkUnavailable && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == ours.Type && (c.Status != ours.Status || c.Reason != ours.Reason)
		})
	})
}

// spec is that of a Node with our taints as they are wanted, those of others left alone. A provider ID can be given once.
func (k *Keeper) spec(node, wanted *corev1.Node) corev1.NodeSpec {
	spec := *node.Spec.DeepCopy()
	spec.Taints = slices.DeleteFunc(spec.Taints, func(t corev1.Taint) bool { return ourTaint(t) && !hasTaint(wanted, t) })
	for _, taint := range wanted.Spec.Taints {
		if !hasTaint(node, taint) {
			spec.Taints = append(spec.Taints, taint)
		}
	}
	if spec.ProviderID == "" {
		spec.ProviderID = k.ProviderID()
	}
	return spec
}

// evicting is wanted, with the taint by which pods leave where the Node says that the lower cluster is lost. It is node-lifecycle's, which
// takes it away when the Node is Ready again. But that forgets the zone of Nodes that do not count in its disruption checks, and whom
// it was about to taint, at random, wherever real nodes are in other zones, as they are in every cloud
// (k8s.io/kubernetes/pkg/controller/nodelifecycle, handleDisruption and addPodEvictorForNewZone): pods of a lost cluster left soon, late
// or never. Who is lost together with many is tainted later than others, as there.
func (k *Keeper) evicting(node, wanted *corev1.Node) *corev1.Node {
	notReady := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute, TimeAdded: new(metav1.Now())}
	if !notReadySaid(node) || !notReadySaid(wanted) || hasTaint(node, notReady) {
		return wanted
	}
	if !k.Evictions.Allow() {
		time.AfterFunc(publishInterval, k.Touch)
		return wanted
	}
	wanted = wanted.DeepCopy()
	wanted.Spec.Taints = append(wanted.Spec.Taints, notReady)
	return wanted
}

// notReadySaid reports whether a Node says of itself that it is not ready; Unknown is what others say.
func notReadySaid(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse
	})
}

func ourTaint(t corev1.Taint) bool { return t.Key == keys.VirtualTaint || t.Key == keys.UnusableTaint }

func hasTaint(node *corev1.Node, taint corev1.Taint) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) })
}

// restore makes the Node anew that somebody has deleted, with what others had given it: pods of a Node that is missing are
// collected after 40 s (k8s.io/kubernetes/pkg/controller/podgc).
func (k *Keeper) restore(ctx context.Context, wanted *corev1.Node) error {
	ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
	defer cancel()
	node := wanted.DeepCopy()
	node.Spec.ProviderID = k.ProviderID()
	if before := k.seen.Load(); before != nil {
		theirs := foreignLabels(before)
		for key, value := range before.Labels {
			if theirs[key] {
				node.Labels[key] = value
			}
		}
		annotations := map[string]string{}
		maps.Copy(annotations, before.Annotations)
		maps.DeleteFunc(annotations, func(key, _ string) bool { return strings.HasPrefix(key, "virtual-kubelet.io/") })
		maps.Copy(annotations, node.Annotations)
		node.Annotations = annotations
		node.Spec.Unschedulable = before.Spec.Unschedulable
		for _, taint := range before.Spec.Taints {
			if !ourTaint(taint) && !byControllers(taint) && !hasTaint(node, taint) {
				node.Spec.Taints = append(node.Spec.Taints, taint)
			}
		}
	}
	_, err := k.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registering node %s again: %w", k.Name, err)
	}
	k.Log.Warn("Virtual node was deleted and is registered again")
	return nil
}

// byControllers reports whether a taint is one that Kubernetes' own controllers keep: it comes back where it is due.
func byControllers(t corev1.Taint) bool { return strings.HasPrefix(t.Key, "node.kubernetes.io/") }
