package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/serve"
)

// NewCommand returns `tessera rebalance`.
func NewCommand() *cobra.Command {
	return serve.Command(serve.Daemon[Config]{
		Name:  "rebalance",
		Short: "Move pods that landed badly: have their cluster avoided, then evict them",
		Keys:  configHelp,
		Example: `  # rebalance.yaml
  extender: https://tessera-extender.tessera-system.svc:10260
  extenderCAFile: /etc/tessera/cert/ca.crt
  extenderTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
  listen: 0.0.0.0:10260
  certFile: /etc/tessera/cert/tls.crt
  keyFile: /etc/tessera/cert/tls.key

  tessera rebalance --config rebalance.yaml`,
		Default: DefaultConfig,
		Run:     Run,
	})
}

// Run moves pods until ctx ends.
func Run(ctx context.Context, config *Config) error {
	log := config.Logger("rebalance")
	client, err := serve.UpperClient("rebalance", config.UpperKubeconfig)
	if err != nil {
		return err
	}
	guard, err := serve.NewGuard(client)
	if err != nil {
		return err
	}
	election, err := serve.NewElection(config.LeaderElection, log, client.CoordinationV1(), config.Namespace, "tessera-rebalance")
	if err != nil {
		return err
	}
	waiting := newWatch(client)
	m := newMover(config, log, client, waiting)
	lead := func(ctx context.Context) error {
		if !waiting.wait(ctx) {
			return nil
		}
		log.Info("Ready", "dryRun", config.DryRun)
		return m.run(ctx, config.Interval.Duration)
	}
	handler := newHandler(m, waiting.ready, guard.Bearer)
	return serve.Run(ctx,
		func(ctx context.Context) error { return config.Serve(ctx, log, handler) },
		waiting.run,
		func(ctx context.Context) error { return election.Run(ctx, lead) },
	)
}

func newMover(config *Config, log *slog.Logger, client kubernetes.Interface, waiting *watch) *mover {
	return &mover{
		log: log, metrics: newMetrics(), now: time.Now, pods: waiting.pods, takes: waiting.takes,
		policies: []policy{stuck{after: config.StuckAfter.Duration, by: config.StuckAfterBy}},
		limits:   config.Limits, stay: config.Stay, needsTarget: config.NeedsTarget, waits: map[types.UID]wait{},
		dryRun:   config.DryRun,
		extender: newExtender(config),
		cluster:  &cluster{client: client},
	}
}

// newHandler serves what a mover knows; guard decides who may see more than whether it lives.
func newHandler(m *mover, ready func() error, guard func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	serve.Health(mux, ready)
	mux.Handle("GET /metrics", guard(serve.Metrics(m.metrics.registry)))
	mux.Handle("GET /debug/plan", guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct { // The client has gone if this fails.
			DryRun bool `json:"dryRun"`
			Decision
		}{m.dryRun, m.plan()})
	})))
	return mux
}

var errNotSynced = errors.New("the upper cluster's waiting pods are not known yet")
