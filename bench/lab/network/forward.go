package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// dialWithin bounds a forwarder's attempt to connect.
const dialWithin = 5 * time.Second

// Forwarder passes connections to a port of 127.0.0.1 on to the same port of 127.0.0.1 in a namespace: what is reached there by
// a URL is reached from the machine by the same one. It holds the port from the first moment on, also while nobody listens inside;
// who connects then sees the connection end.
type Forwarder struct {
	listener net.Listener
	inside   *Namespace

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

// Forward listens at port, or at one that the kernel chooses if it is 0.
func Forward(inside *Namespace, port int) (*Forwarder, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("forwarding a port: %w", err)
	}
	f := &Forwarder{listener: listener, inside: inside, conns: map[net.Conn]bool{}}
	go f.accept()
	return f, nil
}

// Port is where the forwarder listens.
func (f *Forwarder) Port() int { return f.listener.Addr().(*net.TCPAddr).Port }

func (f *Forwarder) accept() {
	for {
		outer, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		go f.pass(outer)
	}
}

// pass connects both sides until each has said its last word.
func (f *Forwarder) pass(outer net.Conn) {
	if !f.track(outer) {
		return
	}
	defer f.drop(outer)
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	inner, err := f.inside.DialContext(ctx, "tcp", f.listener.Addr().String())
	cancel()
	if err != nil {
		_ = outer.(*net.TCPConn).SetLinger(0) // a reset is the nearest to "refused" that is left
		return
	}
	if !f.track(inner) {
		return
	}
	defer f.drop(inner)
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{inner, outer}, {outer, inner}} {
		both.Go(func() {
			if _, err := io.Copy(pair[0], pair[1]); err != nil {
				_ = pair[1].Close() // the other direction has nobody to answer to any more
			}
			_ = pair[0].(*net.TCPConn).CloseWrite() // it may have gone already
		})
	}
	both.Wait()
}

// track remembers a connection for Close; it closes it at once after that.
func (f *Forwarder) track(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		_ = conn.Close() // nobody is left to be told
		return false
	}
	f.conns[conn] = true
	return true
}

func (f *Forwarder) drop(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = conn.Close() // it may have gone already
	delete(f.conns, conn)
}

// Close ends the forwarder and its connections.
func (f *Forwarder) Close() {
	_ = f.listener.Close() // it holds nothing back
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close() // pass drops it
	}
	f.conns = nil
}
