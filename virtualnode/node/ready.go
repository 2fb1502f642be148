package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
)

// unreachableAfter is how long a lower cluster may be silent before its node is NotReady: two probes that fail.
const unreachableAfter = 8 * time.Second

// Reasons of the conditions Ready and tessera.sh/Usable of a virtual node.
const (
	reasonAnswers     = "LowerAnswers"
	reasonUnreachable = "LowerUnreachable"
	reasonCertificate = "CertificateInvalid"
	reasonNotSynced   = "NotSynced"

	reasonUsable  = "LowerUsable"
	reasonExpired = "CredentialsExpired"
	reasonDenied  = "Forbidden"
	reasonFails   = "LowerFails"
	reasonChanged = keys.LowerChanged
	reasonTaken   = keys.IdentityTaken
	reasonUnheld  = "LeaseFails"
	reasonDouble  = string(keys.OtherCluster)
	reasonNoNodes = keys.NoUsableNodes
)

// Reachable reports whether there has been news of the lower cluster lately.
func Reachable(health lower.Health, now time.Time) bool { return within(health.Contact, health, now) }

// Answers reports whether the API server has said anything lately, be it that it lets us do nothing.
func Answers(health lower.Health, now time.Time) bool { return within(health.Answered, health, now) }

// within reports whether this process has listened in vain for a short time at the most: that it was stopped itself for a while
// is not the cluster's fault.
func within(last time.Time, health lower.Health, now time.Time) bool {
	return !last.IsZero() && now.Sub(last)-health.Slept <= unreachableAfter
}

// Ready is the condition Ready without its times: whether the lower API server answers, whatever it says. Pods of a node that is
// not ready are taken for dead, so nothing else may be said by it. Its texts name no changing numbers, so that it changes only
// when the matter does.
func (f *Facts) Ready(now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse}
	switch {
	case f.Broken != "":
		c.Reason, c.Message = reasonUnreachable, "The kubeconfig of this cluster cannot be used: "+f.Broken
	case Answers(f.Health, now):
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonAnswers, "The API server of the lower cluster answers"
	case f.Health.Err == nil && f.Health.Answered.IsZero():
		c.Reason, c.Message = reasonNotSynced, "The API server of the lower cluster has not been asked yet"
	default:
		c.Reason, c.Message = silence(f.Health.Err)
	}
	return c
}

// Usable is the condition tessera.sh/Usable without its times: whether new pods may come. Where it is False the Node has the
// taint tessera.sh/unusable; what runs is not touched by it.
func (f *Facts) Usable(now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: keys.Usable, Status: corev1.ConditionFalse}
	ready := f.Ready(now)
	switch {
	case ready.Status != corev1.ConditionTrue:
		c.Reason, c.Message = ready.Reason, ready.Message
	case f.Changed():
		c.Reason, c.Message = reasonChanged, fmt.Sprintf("Behind the kubeconfig is another cluster than before: the UID of its kube-system is "+
			"%s, it was %s. Nothing is done there until the kubeconfig is put right, or `tessera clusters accept %s` says that this is "+
			"the cluster from now on", f.Health.UID, f.LowerUID, f.Name)
	case f.Holder != "":
		c.Reason, c.Message = reasonTaken, fmt.Sprintf("Another virtualnode of this identity, that of a clone of the upper cluster perhaps, "+
			"holds the lease below, as %s. Nothing is done there until it has been away for a while, or `tessera clusters accept %s` "+
			"says that this one is to go on in its place", f.Holder, f.Name)
	case f.Unheld != "" && Reachable(f.Health, now):
		c.Reason, c.Message = reasonUnheld, "The lower cluster does not let the lease in tessera-system be written, without which nothing is "+
			"done there: "+f.Unheld
	case f.Double != "":
		c.Reason, c.Message = reasonDouble, fmt.Sprintf("The kubeconfig leads to the cluster that virtual node %s stands for already, and the "+
			"node selectors of the two (nodes in perCluster) do not exclude each other: its room would be given away twice", f.Double)
	case !Reachable(f.Health, now) && f.Health.Err != nil:
		c.Reason, c.Message = refusal(f.Health.Err)
	case !f.Health.Synced || f.Snapshot == nil:
		c.Reason, c.Message = reasonNotSynced, "Nodes and pods of the lower cluster are being listed"
	case !f.usable():
		c.Reason, c.Message = reasonNoNodes, f.noNodes()
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonUsable, "The lower cluster has usable nodes"
	}
	if !Reachable(f.Health, now) && !f.Health.Contact.IsZero() {
		c.Message += "; what is shown of its pods is from " + f.Health.Contact.UTC().Format(time.RFC3339)
	}
	return c
}

// Changed reports whether another cluster answers than the one that the Node has stood for.
func (f *Facts) Changed() bool {
	return f.Health.UID != "" && f.LowerUID != "" && f.Health.UID != f.LowerUID
}

// silence says why nothing is heard of a lower cluster. err is what the last attempt ended with, nil if there is none.
func silence(err error) (reason, message string) {
	const meanwhile = "; pods keep running there, nothing new can be created"
	invalid := (*tls.CertificateVerificationError)(nil)
	switch {
	case errors.As(err, &invalid):
		return reasonCertificate, "The certificate of the lower API server does not verify" + meanwhile + ": " + plain(err)
	case err != nil:
		return reasonUnreachable, "The API server of the lower cluster does not answer" + meanwhile + ": " + plain(err)
	default:
		return reasonUnreachable, "The API server of the lower cluster does not answer" + meanwhile
	}
}

// refusal says what a lower API server answers in place of news.
func refusal(err error) (reason, message string) {
	switch {
	case apierrors.IsUnauthorized(err):
		return reasonExpired, "The API server of the lower cluster does not accept the credentials of its kubeconfig: put new ones into it"
	case apierrors.IsForbidden(err):
		return reasonDenied, "The account of the kubeconfig lacks a right in the lower cluster: " + plain(err)
	default:
		return reasonFails, "The API server of the lower cluster answers with an error: " + plain(err)
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
