package streams

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/registry"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// relay is the least that can stand between an upper API server and a lower one: it takes every request for one that means one lower
// pod, whoever asks.
type relay struct {
	lowerFile      string // kubeconfig
	namespace, pod string // of the lower pod
	cert, key      string // files of what it serves with
	clientCA       string // file of what signs the upper API server's certificate
}

// listening is what the relay prints once it listens.
type listening struct {
	Port      int32         `json:"port"`
	Processor time.Duration `json:"processor"` // time that it has taken until then
}

// NewRelayCommand returns the command that runs the relay as a process of its own, as virtualnode is one.
func NewRelayCommand() *cobra.Command {
	r := &relay{}
	command := &cobra.Command{
		Use:    "relay",
		Short:  "Hand what an API server asks a kubelet on to a lower one (run by the load streams)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := serve.Context()
			defer stop()
			return r.run(ctx, command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVar(&r.lowerFile, "lower-kubeconfig", "", "kubeconfig of the lower cluster")
	flags.StringVar(&r.namespace, "namespace", "", "namespace of the lower pod")
	flags.StringVar(&r.pod, "pod", "", "name of the lower pod")
	flags.StringVar(&r.cert, "cert", "", "serving certificate, PEM")
	flags.StringVar(&r.key, "key", "", "its key")
	flags.StringVar(&r.clientCA, "client-ca", "", "CA of the upper API server's client certificate, PEM")
	return command
}

// run serves until ctx ends.
func (r *relay) run(ctx context.Context, out io.Writer) error {
	handler, err := r.handler()
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(r.clientCA)
	if err != nil {
		return fmt.Errorf("reading the CA of clients: %w", err)
	}
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(ca)
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known,
		},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // Upgrades need HTTP/1.1.
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	var spent syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &spent); err != nil {
		return fmt.Errorf("reading processor time: %w", err)
	}
	line, err := json.Marshal(listening{
		Port:      int32(listener.Addr().(*net.TCPAddr).Port), //nolint:gosec // a port
		Processor: time.Duration(spent.Utime.Nano() + spent.Stime.Nano()),
	})
	if err != nil {
		return fmt.Errorf("writing the port: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Fprintln(out, string(line))
	if err := server.ServeTLS(listener, r.cert, r.key); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// handler hands everything on by HTTP/1.1, with the account of virtualnode.
func (r *relay) handler() (http.Handler, error) {
	data, err := os.ReadFile(r.lowerFile)
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	config, err := registry.Config("relay", data)
	if err != nil {
		return nil, err
	}
	config.NextProtos, config.DisableCompression = []string{"http/1.1"}, true
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("reading the address of the lower API server: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("building the way to the lower API server: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(asked *httputil.ProxyRequest) {
			asked.Out.URL, asked.Out.Host = r.lower(base, asked.In.URL), ""
		},
		Transport: transport, FlushInterval: -1,
	}, nil
}

// lower is what a request to a kubelet, such as /exec/NS/POD/CONTAINER?command=x&output=1, is for the lower API server.
func (r *relay) lower(base, asked *url.URL) *url.URL {
	parts := strings.Split(asked.Path, "/")
	query := asked.Query()
	for of, to := range map[string]string{"input": "stdin", "output": "stdout", "error": "stderr"} {
		if query.Get(of) == "1" {
			query.Set(to, "true")
		}
		query.Del(of)
	}
	query.Set("container", parts[len(parts)-1])
	kind := "exec"
	if strings.HasPrefix(asked.Path, "/containerLogs/") {
		kind = "log"
	}
	u := *base
	u.Path = strings.TrimSuffix(base.Path, "/") + "/api/v1/namespaces/" + r.namespace + "/pods/" + r.pod + "/" + kind
	u.RawQuery = query.Encode()
	return &u
}
