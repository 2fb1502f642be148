package virtualnode_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// fault is what a front does to a request: it waits, and then answers itself if it has an answer.
type fault struct {
	delay  time.Duration
	answer *apierrors.StatusError // nil: the API server answers
}

// front stands between virtualnode and the API server of lower cluster 1 and does to requests what a test says.
type front struct {
	server *httptest.Server
	lab    *lab.Lab

	mu     sync.Mutex
	judge  func(*http.Request) fault // nil: nothing happens to anybody
	ending chan struct{}             // closed: the watches that are open end
}

func newFront(t *testing.T, l *lab.Lab) *front {
	t.Helper()
	config := l.Lower(1)
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	cas := x509.NewCertPool()
	cas.AppendCertsFromPEM(config.CAData)
	f := &front{lab: l, ending: make(chan struct{})}
	// HTTP/1.1 alone: so every watch has a connection of its own, which can be cut.
	passing := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 100},
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // As if nobody listened.
	}
	f.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.pass(passing, w, r) }))
	t.Cleanup(func() {
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

func watches(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

func (f *front) pass(passing http.Handler, w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	judge, ending := f.judge, f.ending
	f.mu.Unlock()
	var now fault
	if judge != nil {
		now = judge(r)
	}
	select {
	case <-r.Context().Done():
		return
	case <-time.After(now.delay):
	}
	if now.answer != nil {
		status := now.answer.Status()
		w.Header().Set("Content-Type", "application/json")
		if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(int(status.Code))
		status.Kind, status.APIVersion = "Status", "v1"
		_ = json.NewEncoder(w).Encode(status) // The client has gone if this fails.
		return
	}
	if watches(r) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			select {
			case <-ending:
				cancel()
			case <-ctx.Done():
			}
		}()
		r = r.WithContext(ctx)
	}
	passing.ServeHTTP(w, r)
}

// does sets what happens to requests from now on; nil lets all pass. cut ends the watches that are open.
func (f *front) does(judge func(*http.Request) fault, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judge = judge
	if cut {
		close(f.ending)
		f.ending = make(chan struct{})
	}
}

// admit writes the cluster's kubeconfig anew, so that virtualnode goes through the front; token "" keeps the one it has.
func (f *front) admit(t *testing.T, token string) {
	t.Helper()
	file := clusterFile(f.lab, f.lab.LowerName(1))
	kubeconfig, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range kubeconfig.Clusters {
		cluster.Server = f.server.URL
		cluster.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	}
	for _, user := range kubeconfig.AuthInfos {
		if token != "" {
			user.Token = token
		}
	}
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	aside := file + ".new" // Replaced as a whole, as a mounted Secret is.
	if err := os.WriteFile(aside, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, file); err != nil {
		t.Fatal(err)
	}
}

// onPods judges the requests of one verb of HTTP about pods; "" is every verb, watches are left alone.
func onPods(method string, does fault) func(*http.Request) fault {
	return func(r *http.Request) fault {
		if !strings.Contains(r.URL.Path, "/pods") || watches(r) || (method != "" && r.Method != method) {
			return fault{}
		}
		return does
	}
}
