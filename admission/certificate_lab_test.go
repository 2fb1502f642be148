package admission_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// shortLife is that of certificates and authorities: short enough to see several of them.
const (
	shortLife  = 18 * time.Second
	secretName = "tessera-admission-cert"
)

// rotation is admission with two replicas that make their certificate themselves.
type rotation struct {
	*testing.T
	lab     *lab.Lab
	client  kubernetes.Interface
	servers []string // addresses of the replicas
}

func startRotation(t *testing.T) *rotation {
	lab.Need(t)
	l, err := lab.Start(t.Context(), lab.Options{
		UpperNodes: 1, Parts: []string{lab.PartAdmission}, Log: os.Stderr,
		Config: map[string]map[string]any{lab.PartAdmission: {
			"certFile": "", "keyFile": "", "ownCertificate": map[string]any{
				"names": []string{"127.0.0.1"}, "life": shortLife.String(), "authorityLife": shortLife.String(), "overlap": "2s",
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	url, _ := l.PartTLS(lab.PartAdmission)
	r := &rotation{T: t, lab: l, client: clientOf(t, l.Upper()), servers: []string{strings.TrimPrefix(url, "https://")}}
	r.second()
	return r
}

// second starts another replica with the same configuration, but for where it listens.
func (r *rotation) second() {
	r.Helper()
	data, err := os.ReadFile(filepath.Join(r.lab.Dir(), "parts", "admission.yaml"))
	if err != nil {
		r.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(data, &config); err != nil {
		r.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	maps.Copy(config, map[string]any{"listen": address, "insecureLoopback": false, "insecurePort": 0})
	if data, err = yaml.Marshal(config); err != nil {
		r.Fatal(err)
	}
	file := filepath.Join(r.TempDir(), "second.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		r.Fatal(err)
	}
	process := exec.Command(r.lab.Tessera(), "admission", "--config", file)
	process.Stdout, process.Stderr = r.Output(), r.Output()
	if err := process.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	r.servers = append(r.servers, address)
}

// bundle is what API servers believe.
func (r *rotation) bundle() []byte {
	r.Helper()
	configuration, err := r.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(r.Context(), "tessera", metav1.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	bundle := configuration.Webhooks[0].ClientConfig.CABundle
	for _, hook := range configuration.Webhooks {
		if !bytes.Equal(hook.ClientConfig.CABundle, bundle) {
			r.Fatalf("webhook %s has another bundle", hook.Name)
		}
	}
	return bundle
}

// served is the certificate of a replica, verified with a bundle.
func served(address string, bundle []byte) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0], nil
}

// agree waits until all replicas serve one and the same certificate that API servers believe.
func (r *rotation) agree() {
	r.Helper()
	lab.Eventually(r, patience, func() error {
		bundle, serials := r.bundle(), map[string]bool{}
		for _, address := range r.servers {
			leaf, err := served(address, bundle)
			if err != nil {
				return err
			}
			serials[leaf.SerialNumber.String()] = true
		}
		if len(serials) != 1 {
			return fmt.Errorf("the replicas serve %d certificates", len(serials))
		}
		return nil
	})
}

// TestOwnCertificate has certificates and authorities of some seconds renewed under a steady stream of pods: none is refused. Then the
// Secret is broken and deleted, and the bundle taken away.
func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	r := startRotation(t)
	r.agree()
	ns := namespace(t, r.client, true)
	certificates, authorities, both, pods := map[string]bool{}, map[string]bool{}, false, 0
	for begin := time.Now(); time.Since(begin) < 3*shortLife/2; {
		if _, err := r.client.CoreV1().Pods(ns).Create(t.Context(), pod(labelled("true")), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Fatalf("after %s, pod %d: %v", time.Since(begin), pods, err)
		}
		pods++
		bundle := r.bundle()
		for _, address := range r.servers {
			leaf, err := served(address, bundle)
			if err != nil {
				t.Fatalf("after %s: %s: %v", time.Since(begin), address, err)
			}
			certificates[leaf.SerialNumber.String()] = true
		}
		all, err := cert.ParseCertsPEM(bundle)
		if err != nil {
			t.Fatal(err)
		}
		authorities[all[0].SerialNumber.String()] = true
		both = both || len(all) == 2
	}
	if len(certificates) < 3 || len(authorities) < 3 || !both {
		t.Errorf("%d certificates, %d authorities, two of them believed at once: %t", len(certificates), len(authorities), both)
	}
	t.Logf("%d pods, %d certificates, %d authorities", pods, len(certificates), len(authorities))
	r.recovers(ns)
	metrics, err := http.Get(r.lab.PartURL(lab.PartAdmission) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	if text, _ := io.ReadAll(metrics.Body); !strings.Contains(string(text), "\ntessera_admission_certificate_expiry_seconds ") {
		t.Error("metrics do not say when the certificate ends")
	}
}

// recovers breaks what admission keeps, and waits until pods can be created again.
func (r *rotation) recovers(ns string) {
	r.Helper()
	secrets := r.client.CoreV1().Secrets(keys.Namespace)
	hooks := r.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	for name, harm := range map[string]func() error{
		"the Secret is deleted": func() error { return secrets.Delete(r.Context(), secretName, metav1.DeleteOptions{}) },
		"the Secret is garbage": func() error {
			secret, err := secrets.Get(r.Context(), secretName, metav1.GetOptions{})
			if err != nil {
				return err
			}
			secret.Data = map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("y")}
			_, err = secrets.Update(r.Context(), secret, metav1.UpdateOptions{})
			return err
		},
		"the bundle is gone": func() error {
			configuration, err := hooks.Get(r.Context(), "tessera", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for i := range configuration.Webhooks {
				configuration.Webhooks[i].ClientConfig.CABundle = nil
			}
			_, err = hooks.Update(r.Context(), configuration, metav1.UpdateOptions{})
			return err
		},
	} {
		lab.Eventually(r, patience, func() error {
			if err := harm(); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			return nil
		})
		r.agree()
		lab.Eventually(r, patience, func() error {
			_, err := r.client.CoreV1().Pods(ns).Create(r.Context(), pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				return fmt.Errorf("after %s: %w", name, err)
			}
			return nil
		})
	}
}
