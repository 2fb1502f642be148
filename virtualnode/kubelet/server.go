package kubelet

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/tessera-k8s/tessera/virtualnode/kubelet/endpoint"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

const (
	headerWithin   = 10 * time.Second // for a caller to send what it asks
	idleFor        = 2 * time.Minute
	headerBytes    = 1 << 20 // a command is in the path; as much as the API server takes
	listenInterval = 10 * time.Second
)

// Guard says who asks and what they may. Both methods may ask the upper API server.
type Guard interface {
	// Who is who sends a request, nil for somebody unknown.
	Who(r *http.Request) (user.Info, error)
	// May reports whether the upper cluster allows it.
	May(ctx context.Context, attributes authorizer.Attributes) (bool, error)
}

// Setup is what the kubelet API of a virtual node works with.
type Setup struct {
	// Name is that of the virtual node, and of its lower cluster.
	Name     string
	Identity string
	Guard    Guard
	Above    Above
	Below    pair.Indexed
	Lower    *Lower
	// Barred reports whether nothing may be done in the lower cluster; logs may be read even then.
	Barred func() bool
	Ports  *endpoint.Ports
	// Certificate is the serving certificate.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Figures answer what there is to measure, by path: /metrics, /metrics/cadvisor, /metrics/probes, /metrics/resource, /stats/summary.
	// Callers have been authorized. What is missing is answered with 404.
	Figures map[string]http.Handler
	Metrics *Metrics
	// Changed is called when the port is another one.
	Changed func()
	Log     *slog.Logger
}

// Server is the kubelet API of one virtual node.
type Server struct {
	Setup
	pods     pods
	proxy    proxy
	plain    map[string]http.Handler // by path
	listener net.Listener            // nil where no port could be had; Open's and Run's alone
	port     atomic.Int32
}

// New returns a server that does nothing before Open.
func New(setup Setup) *Server {
	s := &Server{
		Setup: setup, pods: pods{setup.Name, setup.Identity, setup.Above, setup.Below},
		proxy: proxy{setup.Name, setup.Lower, setup.Log},
	}
	s.plain = s.paths()
	return s
}

// Port is the one it listens on, 0 for none.
func (s *Server) Port() int32 { return s.port.Load() }

// Open listens, so that the Node can be written with its port; Run serves. Where that fails, Run goes on trying.
func (s *Server) Open(ctx context.Context) {
	listener, port, err := s.Ports.Listen(ctx, s.Name)
	if err != nil {
		s.Log.Error("The kubelet API of a virtual node cannot listen, kubectl logs and exec do not work there", "err", err)
		return
	}
	s.listener = listener
	if s.port.Swap(int32(port)) != int32(port) { //nolint:gosec // a port
		s.Changed()
	}
	s.Log.Info("The kubelet API of a virtual node listens", "address", listener.Addr().String())
}

// Run serves until ctx ends, and ends all streams then.
func (s *Server) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if s.listener == nil {
			s.Open(ctx)
		}
		if s.listener != nil {
			if err := s.serve(ctx, s.listener); err != nil {
				s.Log.Error("The kubelet API of a virtual node failed, trying again", "err", err)
			}
			s.listener = nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenInterval):
		}
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.port.Store(0)
}

// serve answers on a listener until ctx ends or the listener fails. All its requests have ended when it returns.
func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	open := newStreams()
	server := &http.Server{
		Handler:           s.handler(open),
		ReadHeaderTimeout: headerWithin, IdleTimeout: idleFor, MaxHeaderBytes: headerBytes,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // Upgrades need HTTP/1.1.
		BaseContext:  func(net.Listener) context.Context { return open.around },
		ConnContext:  withConn,
		ErrorLog:     slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	err := server.Serve(tls.NewListener(listener, s.tls()))
	open.end()
	_ = server.Close()
	open.wait()
	s.Lower.close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: s.Certificate,
		ClientAuth: tls.RequestClientCert, // The guard verifies it: the CA may change.
	}
}

// handler answers requests: who asks, whether they may, and what it is.
func (s *Server) handler(open *streams) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &watched{ResponseWriter: w, code: http.StatusOK}
		kind := "other"
		defer func() {
			s.Metrics.requests.WithLabelValues(s.Name, kind, strconv.Itoa(seen.code)).Inc()
		}()
		if r.ContentLength != 0 { // The server would wait for it before it answers.
			seen.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // A connection that has none has gone.
			answer(seen, http.StatusBadRequest, "no body is taken")
			return
		}
		who, err := s.admit(r)
		if err == nil {
			kind, err = s.route(seen, r, who, open)
		}
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			answer(seen, refused.code, refused.text)
		}
	})
}

// admit says who asks, if they may; else it returns a kubelet's refusal.
func (s *Server) admit(r *http.Request) (user.Info, error) {
	who, err := s.Guard.Who(r)
	if err != nil {
		s.Log.Warn("Who asks the kubelet API cannot be told", "from", r.RemoteAddr, "err", err)
	}
	if err != nil || who == nil {
		return nil, refuse(http.StatusUnauthorized, "Unauthorized")
	}
	asked := rights(s.Name, who, r.Method, r.URL.Path)
	var tried []string
	for _, right := range asked {
		tried = append(tried, right.GetSubresource())
		allowed, err := s.Guard.May(r.Context(), right)
		if err != nil {
			s.Log.Warn("What a user of the kubelet API may do cannot be told", "user", who.GetName(), "err", err)
			return nil, refuse(http.StatusInternalServerError, "Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)",
				who.GetName(), right.GetVerb(), right.GetSubresource())
		}
		if allowed {
			return who, nil
		}
	}
	return nil, refuse(http.StatusForbidden, "Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)\n",
		who.GetName(), asked[0].GetVerb(), tried)
}

// route answers what is asked, or returns a refusal; kind says what it was.
func (s *Server) route(w *watched, r *http.Request, who user.Info, open *streams) (kind string, err error) {
	parts, err := split(r.URL)
	if err != nil {
		return "other", err
	}
	switch Kind(parts[0]) {
	case Logs, Exec, Attach, PortForward:
		return parts[0], s.stream(w, r, parts, who, open)
	}
	handler := s.plain["/"+strings.Join(parts, "/")]
	if handler == nil {
		handler = s.plain["/"+parts[0]+"/"]
	}
	switch {
	case handler == nil:
		return "other", notFound
	case r.Method != http.MethodGet:
		return parts[0], refuse(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	handler.ServeHTTP(w, r)
	return parts[0], nil
}

// stream hands a request for a pod on to the lower API server.
func (s *Server) stream(w *watched, r *http.Request, parts []string, who user.Info, open *streams) error {
	call, err := parse(r.Method, parts, r.URL.Query())
	if err != nil {
		return err
	}
	log := s.Log.With("kind", call.kind, "pod", call.namespace+"/"+call.pod, "container", call.container, "user", who.GetName())
	lower, err := s.pods.find(call)
	if err == nil && call.changes() && s.Barred() {
		err = refuse(http.StatusBadGateway, "nothing is done in lower cluster %q now: see the conditions of node %s", s.Name, s.Name)
	}
	if err != nil {
		log.Debug("A request to the kubelet API is refused", "err", err)
		return err
	}
	closed, ok := open.open(r)
	if !ok {
		return refuse(http.StatusServiceUnavailable, "virtualnode is ending")
	}
	defer closed()
	streams := s.Metrics.streams.WithLabelValues(s.Name, string(call.kind))
	streams.Inc()
	defer streams.Dec()
	begun := time.Now()
	level := slog.LevelDebug
	if call.changes() { // As a record of who did what. Neither the command nor what is said is written anywhere.
		level = slog.LevelInfo
	}
	defer func() {
		log.Log(r.Context(), level, "A request to the kubelet API has ended", "code", w.code, "took", time.Since(begun))
	}()
	s.proxy.serve(w, r, call, lower.Namespace, lower.Name)
	return nil
}

// paths are what is answered without the lower cluster; one that ends in a slash stands for all below it, too.
func (s *Server) paths() map[string]http.Handler {
	all := map[string]http.Handler{
		"/healthz/":     text(http.StatusOK, "ok"),
		"/pods":         http.HandlerFunc(s.listPods),
		"/configz":      http.HandlerFunc(s.showConfig),
		"/logs/":        text(http.StatusNotFound, "a virtual node has no logs of its own: those of lower nodes are read in the lower cluster"),
		"/run/":         text(http.StatusNotFound, "a virtual node does not serve /run: /exec does the same"),
		"/runningpods/": text(http.StatusNotFound, "a virtual node has no container runtime to ask: /pods lists its pods"),
		"/checkpoint/":  text(http.StatusNotFound, "a virtual node takes no checkpoints"),
	}
	for _, path := range []string{"/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource", "/stats/summary"} {
		all[path] = text(http.StatusNotFound, "a virtual node does not serve "+path)
		if handler := s.Figures[path]; handler != nil {
			all[path] = handler
		}
	}
	return all
}

func text(code int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, code, text) })
}

// listPods answers with the upper pods bound to the virtual node.
func (s *Server) listPods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, object := range s.Above.List() {
		list.Items = append(list.Items, *object.(*corev1.Pod))
	}
	writeJSON(w, list)
}

// showConfig answers as much of a kubelet's configuration as there is.
func (s *Server) showConfig(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"kubeletconfig": map[string]any{
		"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "port": s.Port(),
	}})
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // The client has gone if this fails.
}

// watched notes the code of an answer.
type watched struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (w *watched) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Hijack implements http.Hijacker: whoever calls it answers with 101 itself.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.code = http.StatusSwitchingProtocols
	}
	return conn, buffer, err
}

// Unwrap lets http.ResponseController flush.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }
