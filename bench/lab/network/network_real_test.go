package network

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// need skips what makes namespaces, as lab.NeedReal does for package lab, which imports this one.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("TESSERA_REAL") == "" {
		t.Skip("needs network namespaces of its own, so Linux and root; run: make test-real")
	}
}

// three makes the namespaces of an upper cluster and two lower ones.
func three(t *testing.T, isolated bool) *Fabric {
	t.Helper()
	address := netip.MustParsePrefix
	f, err := New([]Cluster{
		{Address: address("198.18.0.10/24")},
		{Address: address("198.18.0.11/24"), Forwards: true, Isolated: isolated, Routes: []Route{{To: address("10.97.0.0/16")}}},
		{Address: address("198.18.0.12/24"), Forwards: true, Isolated: isolated, Routes: []Route{{To: address("10.199.1.0/24"), Via: netip.MustParseAddr("198.18.0.11")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// echo answers every connection in a namespace with its name.
func echo(t *testing.T, n *Namespace, address, name string) string {
	t.Helper()
	listener, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, name)
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// asked is what a namespace hears from an address.
func asked(n *Namespace, address string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := n.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	data, err := io.ReadAll(conn)
	return string(data), err
}

func TestRealFabric(t *testing.T) {
	need(t)
	for name, isolated := range map[string]bool{"flat": false, "isolated": true} {
		t.Run(name, func(t *testing.T) {
			f := three(t, isolated)
			upper, one, two := f.Cluster(0), f.Cluster(1), f.Cluster(2)
			onUpper, onOne := echo(t, upper, "198.18.0.10:0", "upper"), echo(t, one, "198.18.0.11:0", "one")
			for _, from := range []*Namespace{one, two} {
				if got, err := asked(from, onUpper); got != "upper" {
					t.Errorf("a lower cluster asks the upper one: %q, %v", got, err)
				}
			}
			if got, err := asked(upper, onOne); got != "one" {
				t.Errorf("the upper cluster asks a lower one: %q, %v", got, err)
			}
			if got, err := asked(two, onOne); (got == "one") == isolated {
				t.Errorf("a lower cluster asks the other: %q, %v", got, err)
			}
			if got, err := asked(upper, "203.0.113.1:80"); err == nil || !strings.Contains(err.Error(), "unreachable") {
				t.Errorf("a way out of the fabric: %q, %v", got, err)
			}
		})
	}
}

// Settings and links of a namespace are its own; a command that is started in one sees them.
func TestRealNamespaceIsItsOwn(t *testing.T) {
	need(t)
	before := machine(t)
	f := three(t, false)
	for i, want := range []string{"0", "1", "1"} {
		var out []byte
		err := f.Cluster(i).Do(func() (err error) {
			out, err = exec.Command("cat", "/proc/sys/net/ipv4/ip_forward").Output()
			return err
		})
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("cluster %d: ip_forward is %q, want %s: %v", i, got, want, err)
		}
	}
	if got := machine(t); got != before {
		t.Errorf("the machine was\n%s\nand is\n%s", before, got)
	}
}

// machine is what of the machine's own network could have changed.
func machine(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		all.WriteString(l.Name + " " + l.Flags.String() + "\n")
	}
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	return all.String() + string(data)
}

// A URL of 127.0.0.1 is the same inside and outside, also when the server comes late and when it comes back.
func TestRealForwarder(t *testing.T) {
	need(t)
	f := three(t, false)
	forward, err := Forward(f.Cluster(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(forward.Close)
	address := forward.listener.Addr().String()
	if got, err := asked(nil, address); got != "" {
		t.Errorf("before anybody listens: %q, %v", got, err)
	}
	listener, err := f.Cluster(0).Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	long := strings.Repeat("long ", 100_000)
	for range 20 {
		answer, err := http.Post("http://"+address, "text/plain", strings.NewReader(long))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || string(got) != long {
			t.Fatalf("%d of %d bytes came back: %v", len(got), len(long), err)
		}
	}
	forward.Close()
	if got, err := asked(nil, address); err == nil {
		t.Errorf("after the end: %q", got)
	}
}
