package node

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tessera-k8s/tessera/internal/lower"
)

// unreachableAfter is how long a lower cluster may be silent before its node is NotReady: two probes that fail.
const unreachableAfter = 8 * time.Second

// Reasons of the condition Ready of a virtual node.
const (
	reasonReady       = "LowerReady"
	reasonUnreachable = "LowerUnreachable"
	reasonExpired     = "CredentialsExpired"
	reasonForbidden   = "Forbidden"
	reasonNotSynced   = "NotSynced"
	reasonNoNodes     = "NoUsableNodes"
)

// Reachable reports whether the lower cluster has answered lately.
func Reachable(health lower.Health, now time.Time) bool {
	return !health.Contact.IsZero() && silence(health, now) <= unreachableAfter
}

// silence is how long this process has listened to a lower cluster without an answer: that it was stopped itself for a while is
// not the cluster's fault.
func silence(health lower.Health, now time.Time) time.Duration {
	return now.Sub(health.Contact) - health.Slept
}

// Ready is the condition Ready without its times. Its texts name no changing numbers, so that it changes only when the
// matter does.
func (f *Facts) Ready(now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse}
	switch {
	case f.Broken != "":
		c.Reason, c.Message = reasonUnreachable, "The kubeconfig of this cluster cannot be used: "+f.Broken
	case !Reachable(f.Health, now) && (f.Health.Err != nil || !f.Health.Contact.IsZero()):
		c.Reason, c.Message = outage(f.Health.Err)
	case !f.Health.Synced || f.Snapshot == nil:
		c.Reason, c.Message = reasonNotSynced, "Nodes and pods of the lower cluster are being listed"
	case !f.usable():
		c.Reason, c.Message = reasonNoNodes, f.noNodes()
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonReady, "The lower cluster answers and has usable nodes"
	}
	return c
}

// outage says why nothing is heard of a lower cluster. err is what the last attempt ended with, nil if there is none.
func outage(err error) (reason, message string) {
	const meanwhile = "; pods keep running there, nothing new can be created"
	switch {
	case apierrors.IsUnauthorized(err):
		return reasonExpired, "The API server of the lower cluster does not accept the credentials of its kubeconfig: " +
			"put new ones into it" + meanwhile
	case apierrors.IsForbidden(err):
		return reasonForbidden, "The account of the kubeconfig lacks a right in the lower cluster" + meanwhile + ": " + plain(err)
	case err != nil:
		return reasonUnreachable, "The API server of the lower cluster does not answer" + meanwhile + ": " + plain(err)
	default:
		return reasonUnreachable, "The API server of the lower cluster does not answer" + meanwhile
	}
}

// plain is the text of an error without what differs from one attempt to the next: URLs with random timeouts, the ports
// of our side of a connection, the time of day.
func plain(err error) string {
	if expired := (x509.CertificateInvalidError{}); errors.As(err, &expired) && expired.Reason == x509.Expired {
		return "its certificate has expired or is not yet valid"
	}
	if status := (*apierrors.StatusError)(nil); errors.As(err, &status) {
		return status.Error()
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return fmt.Sprintf("%s %s: %v", op.Op, op.Addr, op.Err)
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}

func (f *Facts) usable() bool {
	for _, node := range f.Snapshot.Nodes {
		if node.Usable() {
			return true
		}
	}
	return false
}

func (f *Facts) noNodes() string {
	if f.Rules.Nodes != "" {
		return fmt.Sprintf("None of the %d nodes of the lower cluster that %s selects is ready and schedulable",
			len(f.Snapshot.Nodes), f.Rules.Nodes)
	}
	return fmt.Sprintf("None of the %d nodes of the lower cluster is ready and schedulable", len(f.Snapshot.Nodes))
}
