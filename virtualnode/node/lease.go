package node

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// beatInterval is between two renewals of the lease. Half of what a kubelet takes, so that upper clusters which notice
// dead nodes fast can be served.
const beatInterval = 5 * time.Second

// leases renews the lease of a virtual node for as long as its lower cluster is not lost. Failing virtual-kubelet's Ping
// instead would keep the status from being written, too, and so the reason.
type leases struct {
	coordinationclient.LeaseInterface
	lost func() bool
}

// Update implements coordinationclient.LeaseInterface. Of a lost cluster nothing is written, so that the lease runs out.
func (l leases) Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if l.lost() {
		return lease, nil // It keeps its resourceVersion, by which the next renewal succeeds.
	}
	return l.LeaseInterface.Update(ctx, lease, options)
}

// lost reports whether the lower cluster has been silent for longer than its lease lasts. Of one that has not answered
// since this process started, the Node tells since when.
func (k *Keeper) lost() bool {
	now := time.Now()
	health := k.Health()
	if !health.Contact.IsZero() {
		return silence(health, now) > k.LeaseStopsAfter
	}
	unready := k.unready.Load()
	return unready != nil && now.Sub(*unready) > k.LeaseStopsAfter
}

// note remembers since when the Node is not Ready.
func (k *Keeper) note(node *corev1.Node) {
	ready := node.Status.Conditions[0]
	if ready.Status == corev1.ConditionTrue {
		k.unready.Store(nil)
		return
	}
	k.unready.Store(&ready.LastTransitionTime.Time)
}
