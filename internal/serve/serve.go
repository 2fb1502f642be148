package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Context returns a context that ends at SIGINT or SIGTERM; a second signal ends the process at once.
func Context() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel) // Gives the signals back to their default, which is to end the process.
	return ctx, cancel
}

// Run starts every function side by side and returns when all have ended: the first error ends the others.
func Run(ctx context.Context, runs ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Health adds /healthz and /readyz to mux, open to anyone. ready returns why the part is not ready, or nil.
func Health(mux *http.ServeMux, ready func() error) {
	HealthOf(mux, func() error { return nil }, ready)
}

// HealthOf is Health for a part that can hang: alive returns why it does, or nil.
func HealthOf(mux *http.ServeMux, alive, ready func() error) {
	for path, check := range map[string]func() error{"GET /healthz": alive, "GET /readyz": ready} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			if err := check(); err != nil {
				Error(w, http.StatusServiceUnavailable, err.Error())
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
}

// Metrics is the /metrics handler of a registry.
func Metrics(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
}

// Serve serves handler on the listeners of the configuration until ctx ends, then waits up to 5 s for requests
// that are being answered. A busy or forbidden address is an error at once.
func (c *Config) Serve(ctx context.Context, log *slog.Logger, handler http.Handler) error {
	listeners, err := c.listeners(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // pprof takes its time
		IdleTimeout:       120 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			_ = server.Close()
		}
	})
	defer func() {
		if !stop() {
			<-closed // Requests are being answered.
		}
	}()
	var group errgroup.Group
	for _, listener := range listeners {
		log.Info("Listening", "address", listener.Addr().String())
		group.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *Config) listeners(ctx context.Context) ([]net.Listener, error) {
	var opened []net.Listener
	open := func(address string) (net.Listener, error) {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			for _, other := range opened {
				_ = other.Close()
			}
			return nil, fmt.Errorf("listening on %s: %w", address, err)
		}
		opened = append(opened, listener)
		return listener, nil
	}
	if c.InsecureLoopback {
		if _, err := open(fmt.Sprintf("127.0.0.1:%d", c.InsecurePort)); err != nil {
			return nil, err
		}
	}
	if c.Listen != "" {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		plain, err := open(c.Listen)
		if err != nil {
			return nil, err
		}
		opened[len(opened)-1] = tls.NewListener(plain, config)
	}
	return opened, nil
}
