package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

func TestReady(t *testing.T) {
	t.Parallel()
	usable := picture(snapshot.NewNode(lowerNode("a"), nil))
	silent := lower.Health{Synced: true, Contact: now.Add(-unreachableAfter - time.Second), Err: errors.New("connection refused")}
	cases := map[string]struct {
		Facts  Facts
		reason string
		status corev1.ConditionStatus
		says   string
	}{
		"working":                     {Facts{Health: healthy(), Snapshot: usable}, reasonReady, corev1.ConditionTrue, ""},
		"one failed probe":            {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-4 * time.Second), Err: errors.New("x")}, Snapshot: usable}, reasonReady, corev1.ConditionTrue, ""},
		"silent":                      {Facts{Health: silent, Snapshot: usable}, reasonUnreachable, corev1.ConditionFalse, "connection refused"},
		"silent while it was stopped": {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-time.Minute), Slept: 55 * time.Second}, Snapshot: usable}, reasonReady, corev1.ConditionTrue, ""},
		"silent before that, too":     {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-time.Minute), Slept: 50 * time.Second}, Snapshot: usable}, reasonUnreachable, corev1.ConditionFalse, "does not answer"},
		"never reached":               {Facts{Health: lower.Health{Err: errors.New("no such host")}}, reasonUnreachable, corev1.ConditionFalse, "no such host"},
		"silent, for no known reason": {Facts{Health: lower.Health{Synced: true, Contact: silent.Contact}, Snapshot: usable}, reasonUnreachable, corev1.ConditionFalse, "does not answer"},
		"token revoked": {Facts{Health: lower.Health{Synced: true, Contact: silent.Contact,
			Err: fmt.Errorf("probing v: %w", apierrors.NewUnauthorized("Unauthorized"))}, Snapshot: usable}, reasonExpired, corev1.ConditionFalse, "kubeconfig"},
		"list forbidden": {Facts{Health: lower.Health{Contact: silent.Contact,
			Err: apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New(`User "x" cannot list resource "pods"`))}},
			reasonForbidden, corev1.ConditionFalse, `cannot list resource "pods"`},
		"token revoked a moment ago": {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-4 * time.Second),
			Err: apierrors.NewUnauthorized("Unauthorized")}, Snapshot: usable}, reasonReady, corev1.ConditionTrue, ""},
		"nobody selected":   {Facts{Health: healthy(), Snapshot: picture(), Rules: translate.Rules{Nodes: "pool=x"}}, reasonNoNodes, corev1.ConditionFalse, "that pool=x selects"},
		"broken kubeconfig": {Facts{Broken: "no server"}, reasonUnreachable, corev1.ConditionFalse, "kubeconfig of this cluster cannot be used: no server"},
		"just started":      {Facts{}, reasonNotSynced, corev1.ConditionFalse, "being listed"},
		"listing":           {Facts{Health: lower.Health{Contact: now}}, reasonNotSynced, corev1.ConditionFalse, ""},
		"all cordoned":      {Facts{Health: healthy(), Snapshot: picture(snapshot.NewNode(lowerNode("a", cordoned), nil))}, reasonNoNodes, corev1.ConditionFalse, "None of the 1 nodes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.Facts.Ready(now)
			if got.Reason != c.reason || got.Status != c.status || !strings.Contains(got.Message, c.says) {
				t.Errorf("got %s %s %q, want %s %s %q", got.Status, got.Reason, got.Message, c.status, c.reason, c.says)
			}
		})
	}
}

// A text that changed from attempt to attempt would be written to the Node each time.
func TestPlainErrors(t *testing.T) {
	t.Parallel()
	server := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 6443}
	request := func(err error) error {
		return fmt.Errorf("probing v: %w", &url.Error{Op: "Get", URL: "https://10.0.0.1:6443/api/v1/nodes?timeoutSeconds=345", Err: err})
	}
	expired := x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time 2026-01-01T00:00:00Z is after 2025-01-01T00:00:00Z"}
	cases := map[string]struct {
		err  error
		want string
	}{
		"refused": {request(&net.OpError{Op: "dial", Net: "tcp", Addr: server, Err: syscall.ECONNREFUSED}), "dial 10.0.0.1:6443: connection refused"},
		"reset": {request(&net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 51234}, Addr: server,
			Err: syscall.ECONNRESET}), "read 10.0.0.1:6443: connection reset by peer"},
		"certificate ran out": {request(&tls.CertificateVerificationError{Err: expired}), "its certificate has expired or is not yet valid"},
		"other":               {request(errors.New("context deadline exceeded")), "context deadline exceeded"},
		"no request":          {errors.New("nothing"), "nothing"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := plain(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
