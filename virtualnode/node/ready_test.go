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
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	usable := picture(snapshot.NewNode(lowerNode("a"), nil))
	long := now.Add(-unreachableAfter - time.Second)
	silent := func(err error) Facts {
		return Facts{Health: lower.Health{Synced: true, Contact: long, Answered: long, Err: err}, Snapshot: usable}
	}
	refuses := func(err error) Facts {
		return Facts{Health: lower.Health{Synced: true, Contact: long, Answered: now, Err: fmt.Errorf("probing v: %w", err)}, Snapshot: usable}
	}
	slept := func(d time.Duration) Facts {
		minute := now.Add(-time.Minute)
		return Facts{Health: lower.Health{Synced: true, Contact: minute, Answered: minute, Slept: d}, Snapshot: usable}
	}
	is := func(uid, was types.UID) Facts {
		health := healthy()
		health.UID = uid
		return Facts{Name: "v", Health: health, Snapshot: usable, LowerUID: was}
	}
	forbidden := apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New(`User "x" cannot list resource "pods"`))
	cases := map[string]struct {
		facts         Facts
		ready, usable corev1.ConditionStatus
		reason        string // of Usable; that of Ready is the same where it is False
		says          string
	}{
		"working":                     {Facts{Health: healthy(), Snapshot: usable}, yes, yes, reasonUsable, ""},
		"one failed probe":            {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-4 * time.Second), Answered: now.Add(-4 * time.Second), Err: errors.New("x")}, Snapshot: usable}, yes, yes, reasonUsable, ""},
		"silent":                      {silent(errors.New("connection refused")), no, no, reasonUnreachable, "connection refused"},
		"silent while it was stopped": {slept(55 * time.Second), yes, yes, reasonUsable, ""},
		"silent before that, too":     {slept(50 * time.Second), no, no, reasonUnreachable, "does not answer"},
		"never reached":               {Facts{Health: lower.Health{Err: errors.New("no such host")}}, no, no, reasonUnreachable, "no such host"},
		"silent, for no known reason": {silent(nil), no, no, reasonUnreachable, "does not answer"},
		"its certificate is wrong":    {silent(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}), no, no, reasonCertificate, "does not verify"},
		"token revoked":               {refuses(apierrors.NewUnauthorized("Unauthorized")), yes, no, reasonExpired, "into it; what is shown of its pods is from 1970-01-02T03:46:31Z"},
		"list forbidden":              {refuses(forbidden), yes, no, reasonDenied, `cannot list resource "pods"`},
		"never listed, forbidden":     {Facts{Health: lower.Health{Answered: now, Err: forbidden}}, yes, no, reasonDenied, ""},
		"etcd below is gone":          {refuses(apierrors.NewInternalError(errors.New("etcd failed"))), yes, no, reasonFails, "etcd failed"},
		"too busy":                    {refuses(apierrors.NewTooManyRequests("slow down", 1)), yes, no, reasonFails, "slow down"},
		"token revoked a moment ago":  {Facts{Health: lower.Health{Synced: true, Contact: now.Add(-4 * time.Second), Answered: now, Err: apierrors.NewUnauthorized("Unauthorized")}, Snapshot: usable}, yes, yes, reasonUsable, ""},
		"nobody selected":             {Facts{Health: healthy(), Snapshot: picture(), Rules: translate.Rules{Nodes: "pool=x"}}, yes, no, reasonNoNodes, "that pool=x selects"},
		"broken kubeconfig":           {Facts{Broken: "no server"}, no, no, reasonUnreachable, "kubeconfig of this cluster cannot be used: no server"},
		"just started":                {Facts{}, no, no, reasonNotSynced, "not been asked yet"},
		"listing":                     {Facts{Health: lower.Health{Contact: now, Answered: now}}, yes, no, reasonNotSynced, "being listed"},
		"all cordoned":                {Facts{Health: healthy(), Snapshot: picture(snapshot.NewNode(lowerNode("a", cordoned), nil))}, yes, no, reasonNoNodes, "None of the 1 nodes"},
		"the same cluster":            {is("a", "a"), yes, yes, reasonUsable, ""},
		"the first cluster":           {is("a", ""), yes, yes, reasonUsable, ""},
		"who it is may not be read":   {is("", "a"), yes, yes, reasonUsable, ""},
		"another cluster":             {is("b", "a"), yes, no, reasonChanged, "tessera clusters accept v"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ready, got := c.facts.Ready(now), c.facts.Usable(now)
			if ready.Status != c.ready || ready.Status != yes && ready.Reason != c.reason {
				t.Errorf("Ready is %s %s %q", ready.Status, ready.Reason, ready.Message)
			}
			if got.Reason != c.reason || got.Status != c.usable || !strings.Contains(got.Message, c.says) {
				t.Errorf("got %s %s %q, want %s %s %q", got.Status, got.Reason, got.Message, c.usable, c.reason, c.says)
			}
			if tainted := len(c.facts.node(now).Spec.Taints) == 2; tainted != (c.usable != yes) {
				t.Errorf("taints %v", c.facts.node(now).Spec.Taints)
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
