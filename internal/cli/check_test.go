package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// What an API server says when it does not get through, and what helps. The texts are worded as API servers and kubelets word
// them; that nodes which are reached are ok is tried on real ones by TestRealKubectl.
func TestJudge(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]struct{ result, advice string }{
		`error trying to reach service: tls: failed to verify certificate: x509: certificate signed by unknown authority`: {checkFailed, "signerCertFile"},
		`error trying to reach service: x509: certificate is valid for 10.0.0.2, not 10.0.0.1`:                            {checkFailed, "another address"},
		`error trying to reach service: dial tcp 10.0.0.1:10300: connect: connection refused`:                             {checkFailed, "no way"},
		`error trying to reach service: dial tcp 10.0.0.1:10300: i/o timeout`:                                             {checkFailed, "firewalls"},
		`no preferred addresses found; known addresses: [{Hostname 10.0.0.1}]`:                                            {checkFailed, "--kubelet-preferred-address-types"},
		`address not allowed`: {checkUnknown, "loopback"},
		`Unauthorized`:        {checkFailed, "--kubelet-client-certificate"},
		`Forbidden (user=kube-apiserver-kubelet-client, verb=get, resource=nodes, subresource(s)=[healthz proxy])`: {checkFailed, "system:kubelet-api-admin"},
		`something else`: {checkFailed, "10.0.0.1:10300"},
	} {
		result, words, advice := judge(errors.New(said), "10.0.0.1:10300")
		if result != want.result || words != said || !strings.Contains(advice, want.advice) {
			t.Errorf("%q is %s: %s", said, result, advice)
		}
	}
	mine := apierrors.NewForbidden(corev1.Resource("nodes"), "v", errors.New(`User "eve" cannot get resource "nodes/proxy" in API group ""`))
	if result, _, advice := judge(mine, ""); result != checkUnknown || !strings.Contains(advice, "you may not") {
		t.Errorf("without the right to ask: %s, %s", result, advice)
	}
	if result, _, _ := judge(nil, ""); result != checkOK {
		t.Errorf("an answer is %s", result)
	}
}

// A check that failed ends the command with an error, in both formats; one that cannot tell does not.
func TestPrintChecks(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"table", "json"} {
		var out bytes.Buffer
		if err := printChecks(&out, findings{Checks: []check{{Node: "v", Address: "a", Result: checkOK}, {Node: "w", Result: checkUnknown, Advice: "x"}}}, output); err != nil {
			t.Error(err)
		}
		if err := printChecks(&out, findings{Checks: []check{{Node: "v", Result: checkFailed, Said: "no", Advice: "do it"}}}, output); !errors.Is(err, errCheck) {
			t.Errorf("a failed check ends with %v", err)
		}
		if !strings.Contains(out.String(), "do it") || !strings.Contains(out.String(), "no") {
			t.Errorf("printed: %s", out.String())
		}
	}
}
