package kubelet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/virtualnode/kubelet/endpoint"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// guard knows users by their tokens: admin may everything, metrics may nodes/metrics, nobody may nothing.
type guard struct{}

func (guard) Who(r *http.Request) (user.Info, error) {
	switch name := strings.TrimSpace(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer")); name {
	case "":
		return nil, nil
	case "unsure":
		return nil, errors.New("nobody answers")
	default:
		return &user.DefaultInfo{Name: name}, nil
	}
}

func (guard) May(_ context.Context, a authorizer.Attributes) (bool, error) {
	switch a.GetUser().GetName() {
	case "admin":
		return true, nil
	case "metrics":
		return a.GetSubresource() == "metrics", nil
	case "asked":
		return false, errors.New("nobody answers")
	}
	return false, nil
}

// world is the kubelet API of virtual node v before a lower API server that a test plays. Pod a/p is below, as t-a/p.
type world struct {
	*testing.T
	address string
	server  *Server
	log     *lockedText
	stop    func() // ends the server and waits for it
	silent  atomic.Bool
	barred  atomic.Bool
}

type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newWorld(t *testing.T, lower http.HandlerFunc) *world {
	t.Helper()
	below := httptest.NewServer(lower)
	t.Cleanup(below.Close)
	w := &world{T: t, log: &lockedText{}}
	way, err := NewLower(&rest.Config{Host: below.URL + "/behind/a/path", BearerToken: "ours"}, func() bool { return !w.silent.Load() })
	if err != nil {
		t.Fatal(err)
	}
	way.within, way.every = time.Second, 10*time.Millisecond
	certificates, err := endpoint.NewCertificates("", "", func() string { return "127.0.0.1" })
	if err != nil {
		t.Fatal(err)
	}
	upper := upperPod("p")
	above, kept := caches(t, upper, lowerOf(upper), upperPod("waiting", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }))
	w.server = New(Setup{
		Name: "v", Identity: "us", Guard: guard{}, Above: above, Below: kept, Lower: way, Barred: w.barred.Load,
		Ports: endpoint.NewPorts("127.0.0.1", 20000, 60000), Certificate: certificates.Get, Metrics: NewMetrics(prometheus.NewRegistry()),
		Figures: map[string]http.Handler{"/metrics/resource": text(http.StatusOK, "figures")}, Changed: func() {},
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx, cancel := context.WithCancel(t.Context())
	w.server.Open(ctx)
	w.address = fmt.Sprintf("127.0.0.1:%d", w.server.Port())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.server.Run(ctx)
	}()
	w.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	}
	t.Cleanup(w.stop)
	return w
}

// dial connects as the upper API server does.
func (w *world) dial() *tls.Conn {
	w.Helper()
	conn, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a request on a connection of its own, and returns that and the beginning of the answer.
func (w *world) ask(method, target string, header http.Header) (*tls.Conn, *bufio.Reader, *http.Response) {
	w.Helper()
	conn := w.dial()
	request, err := http.NewRequestWithContext(w.Context(), method, "https://"+w.address+target, nil)
	if err != nil {
		w.Fatal(err)
	}
	maps.Copy(request.Header, header)
	if request.Header.Get("Authorization") == "" && header["Authorization"] == nil {
		request.Header.Set("Authorization", "Bearer admin")
	}
	if err := request.Write(conn); err != nil {
		w.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		w.Fatalf("%s %s: %v", method, target, err)
	}
	return conn, reader, answer
}

// get is the code and the text of an answer.
func (w *world) get(target string, header http.Header) string {
	w.Helper()
	_, _, answer := w.ask(http.MethodGet, target, header)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.Errorf("%s: %v", target, err)
	}
	return fmt.Sprintf("%d %s", answer.StatusCode, body)
}

// as is the header of a user.
func as(name string) http.Header { return http.Header{"Authorization": {"Bearer " + name}} }

// upgrade is the header of a request for a stream.
func upgrade() http.Header {
	return http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}
}

// echo plays a lower API server that takes the upgrade and says what it hears. ended hears of the end of each stream.
func echo(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		_, err = io.Copy(conn, buffer)
		ended <- err
	}
}

// hears waits for something to be told.
func hears[E any](t *testing.T, what string, from <-chan E) (heard E) {
	t.Helper()
	select {
	case heard = <-from:
	case <-time.After(patience):
		t.Fatalf("not seen: %s", what)
	}
	return heard
}

// closes waits for the other side to close a connection.
func closes(t *testing.T, conn net.Conn, reader io.Reader) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, reader)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection stays open")
	}
}
