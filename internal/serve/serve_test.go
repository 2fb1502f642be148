package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair writes a self-signed certificate for 127.0.0.1, which is its own CA, and returns its files.
func pair(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// serveTLS runs a listener whose only route needs a client certificate.
func serveTLS(t *testing.T, dir string) string {
	t.Helper()
	certFile, keyFile := pair(t, dir, "first")
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	config := &Config{Listen: address, CertFile: certFile, KeyFile: keyFile, ClientCAFile: certFile}
	mux := http.NewServeMux()
	Health(mux, func() error { return nil })
	mux.Handle("/verb", ClientCertificate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "yes") })))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- config.Serve(ctx, slog.New(slog.DiscardHandler), mux) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address
}

// get asks once the listener is up, with or without a client certificate, offering HTTP/2.
func get(t *testing.T, address, path, certFile, keyFile string, asClient bool) (*http.Response, error) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} // The reload test serves a certificate nobody knows.
	if asClient {
		certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for deadline := time.Now().Add(10 * time.Second); ; {
		response, err := client.Get("https://" + address + path)
		if err == nil {
			_ = response.Body.Close()
			return response, nil
		}
		if !strings.Contains(err.Error(), "connection refused") || time.Now().After(deadline) {
			return nil, err
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	address := serveTLS(t, dir)
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cases := map[string]struct {
		path     string
		asClient bool
		status   int
	}{
		"health is open":            {"/healthz", false, http.StatusOK},
		"a verb without a cert":     {"/verb", false, http.StatusUnauthorized},
		"a verb with a client cert": {"/verb", true, http.StatusOK},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			response, err := get(t, address, test.path, certFile, keyFile, test.asClient)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			if response.ProtoMajor != 1 {
				t.Errorf("%s was spoken: a black-holed connection would lose 45 s", response.Proto)
			}
		})
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	address := serveTLS(t, dir)
	if _, err := get(t, address, "/healthz", "", "", false); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := pair(t, dir, "second")
	later := time.Now().Add(time.Minute)
	for _, file := range []string{certFile, keyFile} {
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
	}
	response, err := get(t, address, "/healthz", "", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if name := response.TLS.PeerCertificates[0].Subject.CommonName; name != "second" {
		t.Errorf("the certificate is still the %s", name)
	}
}

func TestListenErrorsNameTheAddress(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	config := &Config{InsecureLoopback: true, InsecurePort: port}
	err = config.Serve(t.Context(), slog.New(slog.DiscardHandler), http.NewServeMux())
	if err == nil || !strings.Contains(err.Error(), busy.Addr().String()) {
		t.Errorf("error %v does not name %s", err, busy.Addr())
	}
	config = &Config{Listen: "127.0.0.1:0", CertFile: "/no/such", KeyFile: "/no/such"}
	if err := config.Serve(t.Context(), slog.New(slog.DiscardHandler), http.NewServeMux()); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("error %v does not name the file", err)
	}
}

func TestRight(t *testing.T) {
	for path, want := range map[string]string{
		"/metrics": "/metrics", "/debug/clusters": "/debug/clusters", "/debug/clusters/a": "/debug/clusters/",
		"/v1/holds/uid": "/v1/holds/", "/debug/pods/ns/name": "/debug/pods/", "/": "/",
	} {
		if got := right(path); got != want {
			t.Errorf("right(%s) = %s, want %s", path, got, want)
		}
	}
}

func TestUpperClientNamesTheFile(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "upper.kubeconfig")
	if err := os.WriteFile(broken, []byte("no: [kubeconfig"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/no/such/kubeconfig", broken, ""} {
		if _, err := UpperClient("extender", path); err == nil || !strings.Contains(err.Error(), `"`+path+`"`) {
			t.Errorf("error %v does not name %q", err, path)
		}
	}
}
