package kubelet

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// streams are the connections on which answers of the lower cluster come and go: those that were upgraded, of which http.Server
// knows nothing any more, and the others alike. Its methods are safe for concurrent use.
type streams struct {
	mu     sync.Mutex
	ended  bool
	conns  map[net.Conn]struct{}
	group  sync.WaitGroup  // of the requests
	around context.Context // of all requests
	cancel context.CancelFunc
}

func newStreams() *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{conns: map[net.Conn]struct{}{}, around: ctx, cancel: cancel}
}

type connKey struct{}

// withConn has the context of a connection's requests know the connection.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// open notes the stream of a request; it is the goroutine of the request that calls closed once it has ended. ok is false if no stream
// may begin any more.
func (s *streams) open(r *http.Request) (closed func(), ok bool) {
	conn, found := r.Context().Value(connKey{}).(net.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !found {
		return nil, false
	}
	s.conns[conn] = struct{}{}
	s.group.Add(1)
	return func() {
		defer s.group.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}, true
}

// end ends all of them, on both sides: below by the context of the requests, above by closing the connection, since one whose reader
// has stopped to read would hold up its goroutine for ever. It does not wait for a farewell of TLS for the same reason.
func (s *streams) end() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for conn := range s.conns {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		_ = conn.Close()
	}
}

// wait waits for all of them to have ended.
func (s *streams) wait() { s.group.Wait() }
