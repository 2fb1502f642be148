package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// free are n ports in a row that nobody listens on now.
func free(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := listener.Addr().(*net.TCPAddr).Port
		good := first+n < 65536
		var others []net.Listener
		for i := 1; i < n && good; i++ {
			other, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: first + i})
			if good = err == nil; good {
				others = append(others, other)
			}
		}
		for _, l := range append(others, listener) {
			_ = l.Close()
		}
		if good {
			return first
		}
	}
	t.Fatal("no ports")
	return 0
}

func nodeOf(name string, port int) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(port)}},
	}}
}

// A virtual node has the port that its Node says; a new one takes none of another's, while there are others.
func TestPorts(t *testing.T) {
	t.Parallel()
	first := free(t, 4)
	ports := NewPorts("127.0.0.1", first, first+3)
	ports.Keep([]corev1.Node{nodeOf("a", first), nodeOf("gone", first+1), nodeOf("outside", first+4), nodeOf("double", first), nodeOf("none", 0)})
	taken, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: first + 2})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	listen := func(node string, want int) net.Listener {
		t.Helper()
		listener, port, err := ports.Listen(t.Context(), node)
		if err != nil || port-first != want {
			t.Fatalf("%s: port %d, %v, want %d", node, port-first, err, want)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return listener
	}
	b := listen("b", 3) // 0 and 1 are kept for others, 2 is taken.
	listen("a", 0)
	listen("c", 1) // Of a cluster that has gone.
	if _, _, err := ports.Listen(t.Context(), "d"); err == nil || !strings.Contains(err.Error(), "all ports from") {
		t.Errorf("none is left: %v", err)
	}
	_ = b.Close()
	listen("b", 3) // Again.
}

func TestAddress(t *testing.T) {
	for name, c := range map[string]struct{ configured, pod, upper, want string }{
		"configured":         {"192.0.2.7", "192.0.2.8", "127.0.0.1:6443", "192.0.2.7"},
		"a name":             {"nodes.example.com", "", "127.0.0.1:6443", "nodes.example.com"},
		"of the pod":         {"", "192.0.2.8", "127.0.0.1:6443", "192.0.2.8"},
		"by the route":       {"", "", "127.0.0.1:6443", "127.0.0.1"},
		"by the route, 443":  {"", "", "127.0.0.1", "127.0.0.1"},
		"no route to a name": {"", "", "no such name.invalid", ""},
	} {
		t.Setenv(podIP, c.pod)
		if got := NewAddress(c.configured, c.upper).String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Another address is news; one that cannot be found for a moment is not.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	now := "192.0.2.1"
	a := &Address{find: func() string { return now }}
	steps := []struct {
		now  string
		news bool
		want string
	}{{"192.0.2.1", true, "192.0.2.1"}, {"192.0.2.1", false, "192.0.2.1"}, {"", false, "192.0.2.1"}, {"192.0.2.2", true, "192.0.2.2"}}
	for i, step := range steps {
		now = step.now
		if news := a.look(); news != step.news || a.String() != step.want {
			t.Errorf("step %d: news %t, %s", i, news, a)
		}
	}
}

// leaf parses the certificate in use.
func leaf(t *testing.T, c *Certificates) *x509.Certificate {
	t.Helper()
	made, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A certificate is made once for an address, anew for another one, and after half of its life.
func TestCertificateFollowsTheAddress(t *testing.T) {
	t.Parallel()
	address, now := "192.0.2.1", time.Now()
	c, err := NewCertificates("", "", func() string { return address })
	if err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return now }
	one := leaf(t, c)
	if err := one.VerifyHostname(address); err != nil || !one.Equal(leaf(t, c)) || one.IsCA {
		t.Errorf("%v, %v", err, one)
	}
	address = "virtualnode.example.com"
	two := leaf(t, c)
	if err := two.VerifyHostname(address); err != nil || two.Equal(one) {
		t.Errorf("%v, made anew %t", err, !two.Equal(one))
	}
	now = now.Add(certificateLife/2 + time.Minute)
	three := leaf(t, c)
	if three.Equal(two) || three.NotAfter.Before(two.NotAfter) {
		t.Errorf("made anew %t, ends %s", !three.Equal(two), three.NotAfter)
	}
}

// signer writes a certificate and its key, and returns it.
func signer(t *testing.T, dir string, ca bool) (certFile, keyFile string, parsed *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: ca,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if parsed, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, parsed
}

// What a CA signs verifies against it; while its files are away, the last certificate is good.
func TestCertificateOfASigner(t *testing.T) {
	t.Parallel()
	certFile, keyFile, ca := signer(t, t.TempDir(), true)
	now := time.Now()
	c, err := NewCertificates(certFile, keyFile, func() string { return "192.0.2.1" })
	if err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return now }
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	one := leaf(t, c)
	if _, err := one.Verify(x509.VerifyOptions{Roots: roots, DNSName: "192.0.2.1", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificateLife/2 + time.Minute)
	if !leaf(t, c).Equal(one) {
		t.Error("another one, by nobody")
	}
}

func TestBadSigner(t *testing.T) {
	t.Parallel()
	certFile, keyFile, _ := signer(t, t.TempDir(), false)
	got := map[string]string{}
	for name, files := range map[string][2]string{"missing": {"/no/such.crt", "/no/such.key"}, "no CA": {certFile, keyFile}} {
		_, err := NewCertificates(files[0], files[1], func() string { return "192.0.2.1" })
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		got[name] = strings.ReplaceAll(err.Error(), certFile, "FILE")
	}
	want := map[string]string{
		"missing": `making a serving certificate for "192.0.2.1": reading signerCertFile and signerKeyFile: open /no/such.crt: no such file or directory`,
		"no CA":   `making a serving certificate for "192.0.2.1": signerCertFile FILE is no CA`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
