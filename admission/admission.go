package admission

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

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
	return config.Serve(ctx, log, newHandler(log, newMetrics(), config.settings()))
}

func newHandler(log *slog.Logger, metrics *metrics, settings mutate.Settings) http.Handler {
	mux := http.NewServeMux()
	serve.Health(mux, func() error { return nil }) // It depends on nothing: listening is being ready.
	mux.Handle("GET /metrics", serve.ClientCertificate(serve.Metrics(metrics.registry)))
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
