package admission

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/admission/certificate"
	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// NewCommand returns `tessera admission`.
func NewCommand() *cobra.Command {
	return serve.Command(serve.Daemon[Config]{
		Name:    "admission",
		Short:   "Mark and seal pods as they are created, and keep all others off virtual nodes (mutating webhooks)",
		Keys:    configHelp,
		Example: example,
		Default: DefaultConfig,
		Run:     Run,
	})
}

// Run serves until ctx ends.
func Run(ctx context.Context, config *Config) error {
	log := config.Logger("admission")
	served, reader, keep, err := config.certificate(log)
	if err != nil {
		return err
	}
	known, err := config.namespaces(log)
	if err != nil {
		return err
	}
	settings := config.settings()
	if known != nil {
		settings.Namespace = known.annotations
	}
	ready := func() error {
		_, err := served(nil)
		return errors.Join(err, known.ready())
	}
	handler := newHandler(log, newMetrics(served), reader, ready, settings)
	return serve.Run(ctx,
		func(ctx context.Context) error { return config.Serve(ctx, log, handler) },
		func(ctx context.Context) error { return certificate.Warn(ctx, log, served) },
		known.run,
		keep,
	)
}

// middleware lets some requests through.
type middleware func(http.Handler) http.Handler

// certificate returns what is served, who may read metrics, and what keeps the own certificate, if there is one: with an account the
// API server is asked about tokens, without one a client certificate is all that can be judged.
func (c *Config) certificate(log *slog.Logger) (served certificate.Get, reader middleware, keep func(context.Context) error, err error) {
	if !c.own() {
		served, err = serve.Certificate(c.CertFile, c.KeyFile)
		return served, serve.ClientCertificate, func(context.Context) error { return nil }, err
	}
	client, err := serve.UpperClient("admission", c.UpperKubeconfig)
	if err != nil {
		return nil, nil, nil, err
	}
	guard, err := serve.NewGuard(client)
	if err != nil {
		return nil, nil, nil, err
	}
	own := c.OwnCertificate
	k := c.keeper
	k.Client, k.Log, k.Namespace, k.Secret, k.Webhooks = client, log, c.Namespace, own.Secret, own.Webhooks
	k.Names = append([]string{"tessera-admission." + c.Namespace + ".svc"}, own.Names...)
	k.Lives = certificate.Lives{Serving: own.Life.Duration, Authority: own.AuthorityLife.Duration, Overlap: own.Overlap.Duration}
	return k.Certificate, guard.Bearer, k.Run, nil
}

func newHandler(log *slog.Logger, metrics *metrics, reader middleware, ready func() error, settings mutate.Settings) http.Handler {
	mux := http.NewServeMux()
	serve.Health(mux, ready)
	mux.Handle("GET /metrics", reader(serve.Metrics(metrics.registry)))
	mux.Handle("POST /mutate", tlsOnly(webhook(log, metrics, "mutate", mutate.Pods(settings))))
	mux.Handle("POST /restore", tlsOnly(webhook(log, metrics, "restore", mutate.Copies(settings))))
	mux.Handle("POST /keep-off", tlsOnly(webhook(log, metrics, "keep-off", mutate.Others)))
	return mux
}

// tlsOnly keeps the webhooks off the plain listener: what they answer decides where pods may run.
func tlsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			serve.Error(w, http.StatusForbidden, "webhooks are served over TLS only: use the address of listen")
			return
		}
		next.ServeHTTP(w, r)
	})
}
