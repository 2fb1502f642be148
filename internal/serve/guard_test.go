package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// certificate reads the first one of a file.
func certificate(t *testing.T, file string) (*x509.Certificate, []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tls.LoadX509KeyPair(file, filepath.Join(filepath.Dir(file), "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	return loaded.Leaf, data
}

// with is a request that came with a certificate, nil for none.
func with(certificate *x509.Certificate) *http.Request {
	r := &http.Request{Header: http.Header{}, TLS: &tls.ConnectionState{}}
	if certificate != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{certificate}
	}
	return r
}

// Client certificates are taken of the CA that the API server's ConfigMap names, or of a file. (Tokens and rights are tried on real API servers.)
func TestWho(t *testing.T) {
	t.Parallel()
	file, _ := pair(t, t.TempDir(), "kube-apiserver-kubelet-client")
	ours, ca := certificate(t, file)
	other, _ := pair(t, t.TempDir(), "kube-apiserver-kubelet-client")
	strange, _ := certificate(t, other)
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: authentication}, Data: map[string]string{"client-ca-file": string(ca)},
	})
	for source, file := range map[string]string{"ConfigMap": "", "file": file} {
		known, err := NewClientCA(client, file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); known.Run(ctx, slog.New(slog.DiscardHandler)) }()
		guard, err := NewGuardOf(client, known)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for len(known.CurrentCABundleContent()) == 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%s: no CA is read", source)
			}
			<-time.After(10 * time.Millisecond)
		}
		for name, c := range map[string]struct {
			request *http.Request
			want    string
		}{
			"our certificate":   {with(ours), "kube-apiserver-kubelet-client"},
			"one of another CA": {with(strange), ""},
			"nothing":           {with(nil), ""},
		} {
			who, err := guard.Who(c.request)
			if (who == nil) != (c.want == "") || who != nil && (who.GetName() != c.want || err != nil) {
				t.Errorf("%s, %s: %v, %v", source, name, who, err)
			}
		}
		stop()
		<-ended
	}
	if _, err := NewClientCA(client, "/no/such.crt"); err == nil {
		t.Error("a file that is missing is taken")
	}
}
