package kubelet

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"
)

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a line") })
	const logs = "/containerLogs/a/p/c"
	for name, c := range map[string]struct {
		who, path, want string
	}{
		"anonymous":          {"", logs, "401 Unauthorized"},
		"anonymous, health":  {"", "/healthz", "401 Unauthorized"},
		"unknown":            {"unsure", logs, "401 Unauthorized"},
		"no right":           {"nobody", logs, "403 Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[proxy])\n"},
		"no right to pods":   {"nobody", "/pods", "403 Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"},
		"another right":      {"metrics", logs, "403 Forbidden (user=metrics, verb=get, resource=nodes, subresource(s)=[proxy])\n"},
		"that right":         {"metrics", "/metrics/resource", "200 figures"},
		"a trick":            {"metrics", "/metrics/../containerLogs/a/p/c", "404 404: Page Not Found"},
		"an encoded trick":   {"metrics", "/metrics/%2e%2e/containerLogs/a/p/c", "404 404: Page Not Found"},
		"nobody to be asked": {"asked", logs, "500 Authorization error (user=asked, verb=get, resource=nodes, subresource=proxy)"},
		"the right":          {"admin", logs, "200 a line"},
		"the right, unknown": {"admin", "/containerLogs/a/q/c", `404 pod "q" does not exist`},
	} {
		if diff := cmp.Diff(c.want, w.get(c.path, as(c.who))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for asked, want := range map[[2]string]float64{
		{"other", "401"}: 3, {"other", "403"}: 3, {"containerLogs", "200"}: 1, {"containerLogs", "404"}: 1, {"metrics", "200"}: 1,
	} {
		if got := testutil.ToFloat64(w.server.Metrics.requests.WithLabelValues("v", asked[0], asked[1])); got != want {
			t.Errorf("%v requests ended as %v, want %v", got, asked, want)
		}
	}
}

func TestPlainPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("asked below") })
	for path, want := range map[string]string{
		"/healthz":                   "200 ok",
		"/healthz/ping":              "200 ok",
		"/pods":                      `200 {"kind":"PodList","apiVersion":"v1"`,
		"/pods/":                     `200 {"kind":"PodList","apiVersion":"v1"`,
		"/pods/a":                    "404 404: Page Not Found",
		"/configz":                   `200 {"kubeletconfig":{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","port":`,
		"/logs/":                     "404 a virtual node has no logs of its own",
		"/logs/syslog":               "404 a virtual node has no logs of its own",
		"/run/a/p/c":                 "404 a virtual node does not serve /run",
		"/runningpods/":              "404 a virtual node has no container runtime",
		"/checkpoint/a":              "404 a virtual node takes no checkpoints",
		"/metrics":                   "404 a virtual node does not serve /metrics",
		"/stats/summary":             "404 a virtual node does not serve /stats/summary",
		"/metrics/probes":            "404 a virtual node does not serve /metrics/probes",
		"/metrics/other":             "404 404: Page Not Found",
		"/debug/pprof":               "404 404: Page Not Found",
		"/":                          "404 404: Page Not Found",
		"/containerLogs":             "404 404: Page Not Found",
		"/exec/a/p/c":                "400 you must specify at least 1 of",
		"/attach/a/p/x?output=1":     `404 container not found ("x")`,
		"/containerLogs/a/waiting/c": `400 container "c" in pod "waiting" is waiting to start`,
	} {
		if got := w.get(path, nil); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	w.barred.Store(true)
	if got, want := w.get("/exec/a/p/c?output=1", nil), `502 nothing is done in lower cluster "v" now`; !strings.HasPrefix(got, want) {
		t.Errorf("got %s", got)
	}
}

// What gets below is what was asked, with our credentials and none of the caller's.
func TestRequestBelow(t *testing.T) {
	t.Parallel()
	type seen struct {
		target string
		header http.Header
	}
	below := make(chan seen, 1)
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		below <- seen{r.Method + " " + r.URL.RequestURI(), r.Header}
		fmt.Fprint(w, "ok")
	})
	header := http.Header{
		"Authorization": {"Bearer admin"}, "Impersonate-User": {"root"}, "Impersonate-Extra-X": {"y"}, "X-Remote-User": {"root"},
		"X-Forwarded-For": {"192.0.2.1"}, "Cookie": {"a=b"}, "Origin": {"https://example.com"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"kubectl"},
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"k"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Protocol": {"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0", "v4.channel.k8s.io"},
	}
	w.get("/exec/a/p/c?command=id&output=1", header)
	got := hears(t, "the request below", below)
	if want := "GET /behind/a/path/api/v1/namespaces/t-a/pods/p/exec?command=id&container=c&stdout=true"; got.target != want {
		t.Errorf("asked %s, want %s", got.target, want)
	}
	want := http.Header{
		"Accept": {"application/json, */*"}, "Authorization": {"Bearer ours"}, "User-Agent": {"tessera-virtualnode"},
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"k"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Protocol": {"v5.channel.k8s.io, v4.channel.k8s.io"},
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Error(diff)
	}
	w.stop()
	if text := w.log.String(); strings.Contains(text, "command=id") || !strings.Contains(text, "pod=a/p") || !strings.Contains(text, "user=admin") {
		t.Errorf("logged: %s", text)
	}
}

func TestWhereLowerIs(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"https://192.0.2.1:6443":         "https://192.0.2.1:6443/api/v1?a=b",
		"https://192.0.2.1:6443/":        "https://192.0.2.1:6443/api/v1?a=b",
		"https://example.com/clusters/c": "https://example.com/clusters/c/api/v1?a=b",
		"192.0.2.1":                      "http://192.0.2.1/api/v1?a=b",
	} {
		lower, err := NewLower(&rest.Config{Host: host}, nil)
		if err != nil {
			t.Fatal(err)
		}
		u := lower.url("/api/v1", url.Values{"a": {"b"}})
		if got := u.String(); got != want || !strings.HasPrefix(u.RequestURI(), "/") {
			t.Errorf("%s: %s, %s", host, got, u.RequestURI())
		}
	}
}

// Bodies are not taken, neither for logs nor before an upgrade.
func TestBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("asked below") })
	for name, text := range map[string]string{
		"with a length": "POST /exec/a/p/c?output=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Length: 9999999\r\n\r\n",
		"in chunks":     "POST /exec/a/p/c?output=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		conn := w.dial()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 400" {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
}

func TestRefusalsBelow(t *testing.T) {
	t.Parallel()
	status := func(code int, message string) string {
		return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d}`, message, code)
	}
	var code atomic.Int32
	var body atomic.Value
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(code.Load()))
		fmt.Fprint(w, body.Load())
	})
	for name, c := range map[string]struct {
		code       int
		path, said string
		want       string
	}{
		"a kubelet's word": {400, "/containerLogs/a/p/c?previous=true", status(400, `previous terminated container "c" in pod "p" not found`),
			`400 previous terminated container "c" in pod "p" not found`},
		"gone":           {404, "/containerLogs/a/p/c", status(404, `pods "p" not found`), `404 pods "p" not found in lower cluster "v"`},
		"gone, no words": {404, "/exec/a/p/c?output=1", "", `404 pod does not exist in lower cluster "v"`},
		"no right to logs": {403, "/containerLogs/a/p/c", status(403, `pods "p" is forbidden: User "tessera" cannot get resource "pods/log"`),
			`502 lower cluster "v" does not allow it: pods "p" is forbidden: User "tessera" cannot get resource "pods/log": ` +
				`ClusterRole tessera of manifests/lower/rbac.yaml gives the account that right, apply it there`},
		"no right to exec": {403, "/exec/a/p/c?output=1", status(403, `pods "p" is forbidden: User "tessera" cannot create resource "pods/exec"`),
			`502 lower cluster "v" does not allow it: pods "p" is forbidden: User "tessera" cannot create resource "pods/exec": ` +
				`ClusterRole tessera-streams of manifests/lower/rbac.yaml gives the account that right, apply it there`},
		"a policy": {403, "/exec/a/p/c?output=1", status(403, `admission webhook "no-exec" denied the request`),
			`502 lower cluster "v" does not allow it: admission webhook "no-exec" denied the request`},
		"credentials": {401, "/containerLogs/a/p/c", status(401, "Unauthorized"),
			`502 lower cluster "v" does not accept the credentials of its kubeconfig: Unauthorized`},
		"text": {500, "/containerLogs/a/p/c", "dial tcp: connection refused\n", "500 dial tcp: connection refused"},
		"long": {500, "/containerLogs/a/p/c", strings.Repeat("x", 10*errorText), "500 " + strings.Repeat("x", errorText)},
	} {
		code.Store(int32(c.code))
		body.Store(c.said)
		if diff := cmp.Diff(c.want, w.get(c.path, nil)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A lower API server that hangs is told of in time, logs that are followed may take any time to begin, and a cluster that is known not
// to answer is not waited for.
func TestLowerHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			fmt.Fprint(w, "at last")
		case <-r.Context().Done():
		}
	})
	const hangs = `502 reaching the API server of lower cluster "v": the lower API server does not answer`
	if got := w.get("/containerLogs/a/p/c", nil); !strings.HasPrefix(got, hangs+": no answer within 1s") {
		t.Errorf("got %s", got)
	}
	if got := w.get("/exec/a/p/c?output=1", upgrade()); !strings.HasPrefix(got, hangs+": no answer within 1s") {
		t.Errorf("got %s", got)
	}
	answers := make(chan string)
	go func() { answers <- w.get("/containerLogs/a/p/c?follow=true", nil) }()
	select {
	case got := <-answers:
		t.Errorf("it did not wait: %s", got)
	case <-time.After(1500 * time.Millisecond): // Longer than others may take.
	}
	close(release)
	if got := hears(t, "the first line", answers); got != "200 at last" {
		t.Errorf("got %s", got)
	}
}

func TestLowerIsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	answers := make(chan string)
	go func() { answers <- w.get("/containerLogs/a/p/c?follow=true", nil) }()
	w.silent.Store(true)
	want := `502 reaching the API server of lower cluster "v": the lower API server does not answer to anybody: see the conditions of node v`
	if got := hears(t, "the refusal", answers); got != want {
		t.Errorf("got %s", got)
	}
}

// Lines come at once, and a reader that goes away ends what is below.
func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "one line\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	conn, _, answer := w.ask(http.MethodGet, "/containerLogs/a/p/c?follow=true", nil)
	line := make([]byte, len("one line\n"))
	if _, err := io.ReadFull(answer.Body, line); err != nil || string(line) != "one line\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = conn.Close()
	hears(t, "the end below", gone)
}

// A reader that never reads holds up the writer, and nothing is kept of what it wrote in between.
func TestReaderThatNeverReads(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	ended := make(chan struct{})
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		chunk := []byte(strings.Repeat("x", 64<<10))
		for {
			n, err := w.Write(chunk)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	w.ask(http.MethodGet, "/containerLogs/a/p/c?follow=true", nil)
	last, still := int64(-1), 0
	for deadline := time.Now().Add(patience); still < 5; {
		if time.Now().After(deadline) {
			t.Fatalf("it still writes, %d bytes so far", written.Load())
		}
		<-time.After(100 * time.Millisecond)
		if now := written.Load(); now == last {
			still++
		} else {
			last, still = now, 0
		}
	}
	if last > 64<<20 { // Four buffers of the system's, whose size is its own affair.
		t.Errorf("%d bytes are under way", last)
	}
	w.stop()
	hears(t, "the end below", ended)
}

// Streams carry both ways, and end on both sides when the server does, whatever the reader does.
func TestStreamsEnd(t *testing.T) { //nolint:paralleltest // it counts goroutines
	const many = 20
	before := runtime.NumGoroutine()
	t.Run("world", func(t *testing.T) {
		ended := make(chan error, 2*many)
		w := newWorld(t, echo(ended))
		var open []func()
		for i := range many {
			kind := []string{"/exec/a/p/c?output=1", "/attach/a/p/c?input=1", "/portForward/a/p"}[i%3]
			conn, reader, answer := w.ask(http.MethodPost, kind, upgrade())
			if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Upgrade") != "SPDY/3.1" {
				t.Fatalf("%s: %s %v", kind, answer.Status, answer.Header)
			}
			if _, err := fmt.Fprintf(conn, "hello %02d", i); err != nil {
				t.Fatal(err)
			}
			heard := make([]byte, 8)
			if _, err := io.ReadFull(reader, heard); err != nil || string(heard) != fmt.Sprintf("hello %02d", i) {
				t.Fatalf("%s: %q, %v", kind, heard, err)
			}
			open = append(open, func() { closes(t, conn, reader) })
		}
		streams := func() (sum float64) {
			for _, kind := range []Kind{Exec, Attach, PortForward} {
				sum += testutil.ToFloat64(w.server.Metrics.streams.WithLabelValues("v", string(kind)))
			}
			return sum
		}
		if got := streams(); got != many {
			t.Errorf("%v streams are open, want %d", got, many)
		}
		begun := time.Now()
		w.stop()
		for _, closed := range open {
			closed()
			hears(t, "the end below", ended)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		if got := streams(); got != 0 {
			t.Errorf("%v streams are left", got)
		}
		counted := func() float64 {
			return testutil.ToFloat64(w.server.Metrics.requests.WithLabelValues("v", "exec", "101"))
		}
		for deadline := time.Now().Add(patience); counted() != 7; <-time.After(time.Millisecond) { // After its connection has been closed.
			if time.Now().After(deadline) {
				t.Fatalf("%v requests for exec ended with 101", counted())
			}
		}
	})
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		<-time.After(10 * time.Millisecond)
	}
}

// The end of either side of a stream is that of the other.
func TestStreamsFollowTheirEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := newWorld(t, echo(ended))
	conn, _, _ := w.ask(http.MethodPost, "/exec/a/p/c?output=1", upgrade())
	_ = conn.Close()
	hears(t, "the end below", ended)

	leaves := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "SPDY/3.1")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "bye")
			_ = conn.Close()
		}
	})
	conn, reader, _ := leaves.ask(http.MethodPost, "/exec/a/p/c?output=1", upgrade())
	said, err := io.ReadAll(reader)
	if string(said) != "bye" {
		t.Errorf("%q, %v", said, err)
	}
	closes(t, conn, reader)
}

func TestHelpDocumentsEveryKey(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for line := range strings.Lines(Help) {
		if key, _, found := strings.Cut(strings.TrimSpace(line), ": "); found && strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "   ") {
			documented[key] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(configKeys())), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Error(diff)
	}
}
