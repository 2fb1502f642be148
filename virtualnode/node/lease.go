package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// beatInterval is between two renewals of the lease. Less than half of what a kubelet takes, so that upper clusters which notice
// dead nodes fast can be served. It is renewed whatever becomes of the lower cluster: that it runs out means that virtualnode
// is away, and nothing else.
const beatInterval = 4 * time.Second

// renew renews the lease once, before anything else is looked at: whoever takes over has the time that is left of the one before.
func (k *Keeper) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodeWriteTimeout)
	defer cancel()
	leases := k.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, k.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // A new node: its lease comes with it.
	}
	if err != nil {
		return fmt.Errorf("reading the lease of node %s: %w", k.Name, err)
	}
	lease.Spec.RenewTime = new(metav1.NowMicro())
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("renewing the lease of node %s: %w", k.Name, err)
	}
	return nil
}
