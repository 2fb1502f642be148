package extender_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// TestBlackHole swallows what is sent on the connections that kube-scheduler has open to the extender, as a firewall or a dead
// host does, while new connections work. With HTTP/2 the scheduler would go on using the dead one for 45 s.
func TestBlackHole(t *testing.T) {
	l := startLab(t, lab.Options{Lower: 1, Nodes: 2, UpperNodes: 1, Parts: path})
	upper := client(t, l.Upper())
	newNamespace(t, upper, "ordinary", false)
	newNamespace(t, upper, "ours", true)
	f := &faults{lab: l, upper: upper}
	between := newProxy(t)
	extender := throughProxy(t, l, between)
	noHTTP2(t, extender)

	f.pods(t, "ours", 1)
	f.allRun(t, "ours")
	if between.swallow() == 0 {
		t.Fatal("the scheduler has no connection open: there is nothing to cut")
	}
	started := time.Now()
	ours, ordinary := f.pods(t, "ours", 3), f.pods(t, "ordinary", 3)
	for namespace, names := range map[string][]string{"ours": ours, "ordinary": ordinary} {
		for _, name := range names {
			lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), upper, namespace, name) })
		}
	}
	t.Logf("all pods had their nodes %v after the connections were cut", time.Since(started).Round(time.Millisecond))
	if between.swallowed.Load() == 0 {
		t.Error("nothing was sent on the cut connections: the scheduler never noticed them")
	}
	f.allRun(t, "ours")
}

// throughProxy restarts the upper scheduler with the proxy in the place of the extender, and returns the extender's address.
// TLS passes through untouched, and the certificates name 127.0.0.1 without a port.
func throughProxy(t *testing.T, l *lab.Lab, between *proxy) string {
	t.Helper()
	file := filepath.Join(l.Dir(), "kube-scheduler.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`https://([^/]+)/scheduler`).FindSubmatch(config)
	if found == nil {
		t.Fatalf("no address of the extender in %s", config)
	}
	extender := string(found[1])
	between.target.Store(&extender)
	changed := strings.ReplaceAll(string(config), extender, between.listener.Addr().String())
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Process("upper/kube-scheduler").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return extender
}

// noHTTP2 offers the extender HTTP/2, as kube-scheduler does, and wants it declined.
func noHTTP2(t *testing.T, address string) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{NextProtos: []string{"h2", "http/1.1"}, InsecureSkipVerify: true}} // Only the choice matters.
	connection, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if chosen := connection.(*tls.Conn).ConnectionState().NegotiatedProtocol; chosen != "http/1.1" {
		t.Errorf("the extender chose %q, want http/1.1", chosen)
	}
}

// proxy passes bytes on, until it is told to swallow those of the connections that are open then.
type proxy struct {
	listener  net.Listener
	target    atomic.Pointer[string]
	swallowed atomic.Int64 // bytes on their way to the target

	passing sync.WaitGroup
	mu      sync.Mutex
	open    map[*pipe]bool
}

// pipe is one connection through the proxy.
type pipe struct {
	in, out net.Conn
	dead    atomic.Bool // Nothing passes any more, not even an end.
}

// newProxy listens on loopback until the test's end.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, open: map[*pipe]bool{}}
	accepting := make(chan struct{})
	go func() { defer close(accepting); p.accept() }()
	t.Cleanup(func() {
		listener.Close()
		<-accepting
		p.mu.Lock()
		for pipe := range p.open {
			pipe.close()
		}
		p.mu.Unlock()
		p.passing.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", *p.target.Load())
		if err != nil {
			in.Close()
			continue
		}
		pipe := &pipe{in: in, out: out}
		p.mu.Lock()
		p.open[pipe] = true
		p.mu.Unlock()
		p.passing.Go(func() { p.pass(pipe, in, out) })
		p.passing.Go(func() { p.pass(pipe, out, in) })
	}
}

// pass carries bytes in one direction until an end is closed.
func (p *proxy) pass(pipe *pipe, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		switch dead := pipe.dead.Load(); {
		case dead && from == pipe.in:
			p.swallowed.Add(int64(n))
		case !dead && n > 0:
			_, _ = to.Write(buffer[:n]) // Where nobody reads any more, from ends as well.
		}
		if err != nil {
			p.end(pipe)
			return
		}
	}
}

func (p *pipe) close() {
	p.in.Close()
	p.out.Close()
}

// end closes the other end of a connection too, unless that must not hear of it.
func (p *proxy) end(pipe *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !pipe.dead.Load() {
		pipe.close()
		delete(p.open, pipe)
	}
}

// swallow cuts all connections that are open now and returns how many these are.
func (p *proxy) swallow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pipe := range p.open {
		pipe.dead.Store(true)
	}
	return len(p.open)
}
