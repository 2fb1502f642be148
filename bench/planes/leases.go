package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// silentAnnotation on a node stops its lease, as if the machine had died.
const silentAnnotation = "lab.tessera.sh/silent"

// lease renews the leases of all nodes at once and then every interval, until ctx ends. KWOK can do that itself, but then
// ignores pods that were bound before it saw its own lease (0.8.0: pod events are dropped as "read only" and not looked at
// again).
func (k *keeper) lease(ctx context.Context) {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		if err := k.renewAll(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "leases:", err) // the next round tries again
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *keeper) renewAll(ctx context.Context) error {
	work := make(chan *corev1.Node)
	failed := make(chan error, 1)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for node := range work {
				if err := k.renew(ctx, node); err != nil {
					select {
					case failed <- err:
					default: // one is enough to report
					}
				}
			}
		})
	}
	for _, object := range k.nodes.GetStore().List() {
		if node := object.(*corev1.Node); node.Annotations[silentAnnotation] != "true" {
			work <- node
		}
	}
	close(work)
	wait.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (k *keeper) renew(ctx context.Context, node *corev1.Node) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	patch := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, now.UTC().Format(metav1.RFC3339Micro))
	_, err := leases.Patch(ctx, node.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		seconds := int32(40)
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name:            node.Name,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
			},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renewing the lease of node %s: %w", node.Name, err)
	}
	return nil
}
