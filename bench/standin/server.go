package standin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tessera-k8s/tessera/bench/standin/api"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/play"
)

// Suffix is what the kubeconfig of a cluster ends in.
const Suffix = ".kubeconfig"

// Server plays clusters until it is stopped.
type Server struct {
	options  Options
	counts   api.Counts
	clusters []*api.Cluster
	player   *play.Player
	files    []string
	control  string // address of the control endpoint

	stop    context.CancelFunc
	stopped chan struct{} // closed when watches are to end
	group   sync.WaitGroup
	servers []*http.Server
	once    sync.Once
}

// Start plays clusters in this process until ctx ends or Stop is called. When it returns, the kubeconfigs are written and every
// cluster answers. For figures, run it as a process of its own: see StartProcess.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultOptions().Prefix
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	credentials, err := newCredentials()
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	s := &Server{options: o, stopped: make(chan struct{})}
	sites := s.fill()
	s.player = play.NewPlayer(o.Seed, sites, o.rates())
	ctx, s.stop = context.WithCancel(ctx)
	if err := s.serve(credentials); err != nil {
		s.Stop()
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	s.group.Go(func() { s.player.Run(ctx) })
	context.AfterFunc(ctx, s.Stop)
	return s, nil
}

// fill makes all clusters.
func (s *Server) fill() []*play.Site {
	world := objects.NewWorld(objects.Options{Seed: s.options.Seed, UniqueLabels: s.options.UniqueLabels, Lean: s.options.Lean})
	sites := make([]*play.Site, s.options.Clusters)
	s.clusters = make([]*api.Cluster, s.options.Clusters)
	now := time.Now()
	size := play.Size{Nodes: s.options.Nodes, Pods: s.options.Pods, Pending: s.options.Pending}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range sites {
		group.Go(func() error {
			maker := world.NewCluster(i)
			s.clusters[i] = api.NewCluster(fmt.Sprintf("%s%d", s.options.Prefix, i+1), newToken(), map[string]objects.Maker{
				"nodes": objects.Nodes{Cluster: maker}, "pods": objects.Pods{Cluster: maker},
			})
			sites[i] = play.Fill(s.clusters[i], maker, size, now)
			return nil
		})
	}
	_ = group.Wait() // Nothing in it fails.
	return sites
}

// serve opens a port a cluster, and writes the kubeconfigs once all are open.
func (s *Server) serve(credentials *credentials) error {
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return fmt.Errorf("making the folder for kubeconfigs: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{credentials.pair}, MinVersion: tls.VersionTLS12}
	kubeconfigs := make([][]byte, len(s.clusters))
	for i, cluster := range s.clusters {
		handler := &api.Handler{Cluster: cluster, Counts: &s.counts, Kubernetes: objects.KubeletVersion, Stop: s.stopped}
		address, err := s.listen(handler, config)
		if err != nil {
			return err
		}
		if kubeconfigs[i], err = credentials.kubeconfig(cluster.Name, address, cluster.Token); err != nil {
			return err
		}
	}
	var err error
	if s.control, err = s.listen(s.controls(), nil); err != nil {
		return err
	}
	for i, cluster := range s.clusters {
		file := filepath.Join(s.options.Dir, cluster.Name+Suffix)
		if err := os.WriteFile(file, kubeconfigs[i], 0o600); err != nil {
			return fmt.Errorf("writing a kubeconfig: %w", err)
		}
		s.files = append(s.files, file)
	}
	return nil
}

// listen serves on a free port of 127.0.0.1, with TLS if there is a configuration for it.
func (s *Server) listen(handler http.Handler, config *tls.Config) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("opening a port: %w", err)
	}
	server := &http.Server{
		Handler: handler, TLSConfig: config.Clone(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // Clients that go away in the middle are no news.
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	s.servers = append(s.servers, server)
	s.group.Go(func() {
		var err error
		if config == nil {
			err = server.Serve(listener)
		} else {
			err = server.ServeTLS(listener, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "standin: serving:", err)
		}
	})
	return listener.Addr().String(), nil
}

// ControlURL is where Stats are read and rates are set, on loopback.
func (s *Server) ControlURL() string { return "http://" + s.control }

// Names are those of the clusters.
func (s *Server) Names() []string {
	var names []string
	for _, cluster := range s.clusters {
		names = append(names, cluster.Name)
	}
	return names
}

// SetRates changes what is played by itself.
func (s *Server) SetRates(r play.Rates) { s.player.SetRates(r) }

// Stop ends all clusters, takes their kubeconfigs away and returns when nothing runs any more.
func (s *Server) Stop() {
	s.once.Do(func() {
		s.stop()
		close(s.stopped)
		for _, file := range s.files {
			_ = os.Remove(file) // Somebody may have done so.
		}
		for _, server := range s.servers {
			_ = server.Close()
		}
	})
	s.group.Wait()
}
