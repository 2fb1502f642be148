package virtualnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/history"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/registry"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/virtualnode/budgets"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/objects"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// enduredPerSecond is how many pods a second are given the tolerations of virtual nodes that were bound before this process started.
const enduredPerSecond = 20

// evictionInterval is between two virtual nodes whose pods begin to leave because their clusters are lost: as many as node-lifecycle
// takes (--node-eviction-rate), for who loses all clusters at once has most likely lost the way to them.
const evictionInterval = 10 * time.Second

// server is the process: what all its virtual nodes share.
type server struct {
	config   *Config
	log      *slog.Logger
	election *serve.Election
	upper    kubernetes.Interface
	above    *upperObjects    // what all virtual nodes look at
	crowds   *budgets.Crowds  // the same for pods of namespaces with budgets
	sources  *objects.Sources // ConfigMaps and Secrets that pods on virtual nodes name
	services *services.Upper
	policies *policies.Upper
	hub      *services.Hub // where pods of all clusters meet as endpoints of Services
	identity string
	provider string        // scheme of the provider IDs of the real nodes, "" where they have none
	extender *ask.Extender // nil without a URL
	hints    *hints.Hints  // nil without an extender
	kubelets *kubelets     // nil where the configuration wants none
	events   record.EventRecorder
	metrics  *metrics
	whole    *upperWatch
	endured  *rate.Limiter // of all virtual nodes
	evicting *rate.Limiter // of all virtual nodes

	mu     sync.Mutex
	nodes  map[string]*virtualNode
	tokens map[string]registry.Life
	broken map[string]func() // ends the virtual node of a kubeconfig that cannot be used, and waits for that
}

// Run serves virtual nodes until ctx ends. When the upper cluster is restored from a backup meanwhile, everything is read
// anew, as after a restart of the process.
func Run(ctx context.Context, config *Config) error {
	log := config.Logger("virtualnode")
	for {
		err := run(ctx, log, config)
		if !errors.Is(err, history.ErrWentBack) {
			return err
		}
		log.Warn("Starting anew", "err", err)
	}
}

// run serves until ctx ends or the upper cluster goes back in time. Who waits for the lease, and who answers the questions
// of others, may read alone; the client of the work is fenced: it writes for as long as the lease is held.
func run(ctx context.Context, log *slog.Logger, config *Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	open, err := serve.UpperClient("virtualnode", config.UpperKubeconfig)
	if err != nil {
		return err
	}
	election, err := serve.NewElection(config.LeaderElection, log, open.CoordinationV1(), config.Namespace, "tessera-virtualnode")
	if err != nil {
		return err
	}
	upper, err := serve.UpperClient("virtualnode", config.UpperKubeconfig, election.Fence)
	if err != nil {
		return err
	}
	extender, err := newExtender(config)
	if err != nil {
		return err
	}
	guard, err := serve.NewGuard(open)
	if err != nil {
		return err
	}
	identity, err := serve.Identity(ctx, log, upper, config.Identity)
	if err != nil {
		return err
	}
	above, err := newUpperObjects(upper)
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: upper.CoreV1().Events("")})
	s := &server{
		config: config, log: log, election: election, upper: upper, above: above, crowds: budgets.NewCrowds(upper),
		sources: objects.NewSources(upper, log), hub: services.NewHub(),
		identity: identity, provider: providerScheme(ctx, log, open), extender: extender,
		metrics: newMetrics(election.Leads), endured: rate.NewLimiter(enduredPerSecond, enduredPerSecond),
		evicting: rate.NewLimiter(rate.Every(evictionInterval), 1),
		events:   broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tessera-virtualnode"}),
		nodes:    map[string]*virtualNode{}, tokens: map[string]registry.Life{}, broken: map[string]func(){},
	}
	if err := s.share(open); err != nil {
		return err
	}
	s.whole = newUpperWatch(upper, log, s.seenAbove)
	folder := &registry.Folder{
		Dir: config.Clusters, Log: log, Start: s.runCluster, Token: s.noteToken,
		Broken: func(name, text string) { s.brokenCluster(ctx, name, text) },
	}
	return serve.Run(ctx,
		func(ctx context.Context) error { return config.Serve(ctx, log, s.routes(guard)) },
		func(ctx context.Context) error {
			return election.Run(ctx, func(ctx context.Context) error { return s.work(ctx, folder) })
		},
	)
}

// share makes what all virtual nodes ask: for hints, for upper Services and network policies (caches that are filled once a cluster needs
// them), and for who may ask their kubelet API, for which open is good: it may ask in a replica that does not lead, too.
func (s *server) share(open kubernetes.Interface) (err error) {
	if s.extender != nil {
		s.hints = hints.New(s.extender, func(cluster string) hints.Mode { return s.config.cluster(cluster).Hint }, time.Now)
	}
	if s.services, err = services.NewUpper(s.upper, s.hub.Look); err != nil {
		return err
	}
	if s.policies, err = policies.NewUpper(s.upper); err != nil {
		return err
	}
	s.kubelets, err = newKubelets(s.config.Kubelet, open, s.log)
	return err
}

// work serves the clusters of a folder while this process leads.
func (s *server) work(ctx context.Context, folder *registry.Folder) error {
	clusters := folder.Run
	if s.config.RenewTokens {
		clusters = func(ctx context.Context) error { return folder.RunWithTokens(ctx, s.upper, s.config.Namespace) }
	}
	runs := []func(context.Context) error{
		s.above.run, s.sources.Run, s.services.Run, s.policies.Run, s.hub.Run, clusters, s.watchOverlaps, s.whole.run,
	}
	if s.kubelets != nil {
		s.kubelets.keepPorts(ctx)
		runs = append(runs, func(ctx context.Context) error { return s.kubelets.run(ctx, s.touchNodes) })
	}
	return serve.Run(ctx, runs...)
}

// providerScheme is that of the provider IDs of the upper cluster's real nodes, "" where the first ones have none.
func providerScheme(ctx context.Context, log *slog.Logger, upper kubernetes.Interface) string {
	const first = 100
	real := "!" + keys.Cluster
	nodes, err := upper.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: real, Limit: first})
	if err != nil {
		log.Warn("Reading the provider IDs of real nodes failed, virtual nodes get none", "err", err)
		return ""
	}
	for i := range nodes.Items {
		if scheme, _, found := strings.Cut(nodes.Items[i].Spec.ProviderID, "://"); found {
			return scheme
		}
	}
	return ""
}

// newExtender is the client of the extender, nil where none is configured.
func newExtender(config *Config) (*ask.Extender, error) {
	if config.Extender == "" {
		return nil, nil
	}
	extender := &ask.Extender{Daemon: &ask.Daemon{
		Name: "extender", URL: config.Extender, CAFile: config.ExtenderCAFile, TokenFile: config.ExtenderTokenFile,
		Timeout: hints.AskTimeout, UserAgent: "tessera-virtualnode",
	}}
	return extender, extender.Check()
}

// seenAbove are the resource versions that the watches of upper pods have reached.
func (s *server) seenAbove() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seen []string
	for _, v := range s.nodes {
		seen = append(seen, v.above.LastSyncResourceVersion())
	}
	return seen
}

func (s *server) routes(guard *serve.Guard) http.Handler {
	mux := http.NewServeMux()
	serve.Health(mux, s.readiness)
	mux.Handle("GET /metrics", guard.Bearer(serve.Metrics(s.metrics.registry)))
	mux.Handle("GET /debug/pprof/", guard.Bearer(serve.Profiles()))
	mux.Handle("GET /debug/orphans", guard.Bearer(s.working(s.listOrphans)))
	mux.Handle("POST /v1/orphans/collect", guard.Bearer(s.working(s.collectOrphans)))
	return mux
}

// readiness returns why not every cluster of the folder is served yet, or nil. A lower cluster that cannot be
// reached does not count: its Node says so. A replica that waits for its turn has nothing to be ready with.
func (s *server) readiness() error {
	if !s.election.Leads() {
		return nil
	}
	entries, err := os.ReadDir(s.config.Clusters)
	if err != nil {
		return fmt.Errorf("reading clusters folder: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := map[string]bool{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), registry.Suffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		if v := s.nodes[name]; s.broken[name] == nil && (v == nil || !v.synced()) {
			waiting[name] = true
		}
	}
	if len(waiting) > 0 {
		return errors.New("not listed yet: the upper pods of " + strings.Join(slices.Sorted(maps.Keys(waiting)), ", "))
	}
	return nil
}

// noteToken notes how long the token of a cluster is good.
func (s *server) noteToken(cluster string, life registry.Life) {
	s.mu.Lock()
	s.tokens[cluster] = life
	v := s.nodes[cluster]
	s.mu.Unlock()
	if !life.Ends.IsZero() {
		s.metrics.tokenEnds.WithLabelValues(cluster).Set(float64(life.Ends.Unix()))
	} else {
		s.metrics.tokenEnds.DeleteLabelValues(cluster)
	}
	if v != nil {
		v.keeper.Touch()
	}
}

// tokenOf is how long the token of a cluster is good.
func (s *server) tokenOf(cluster string) registry.Life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[cluster]
}

// runCluster serves the virtual node of a cluster until ctx ends or the history of the cluster goes back.
func (s *server) runCluster(ctx context.Context, name string, config *restclient.Config) error {
	config.Wrap(s.election.Fence)
	v, err := newVirtualNode(s, name, config, "")
	if err != nil {
		s.log.Error("Kubeconfig cannot be used", "cluster", name, "err", err)
		s.brokenCluster(ctx, name, err.Error()) // The folder took it for a good one: a CA that is none, for instance.
		<-ctx.Done()
		s.brokenCluster(ctx, name, "")
		return nil
	}
	s.mu.Lock()
	s.nodes[name] = v
	s.mu.Unlock()
	err = v.run(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, name)
	return err
}

// brokenCluster keeps the Node of a cluster whose kubeconfig cannot be used NotReady, saying why; "" ends that. A
// cluster that runs with an older kubeconfig goes on.
func (s *server) brokenCluster(ctx context.Context, name, text string) {
	s.mu.Lock()
	before, runs := s.broken[name], s.nodes[name] != nil
	delete(s.broken, name)
	s.mu.Unlock()
	if before != nil {
		before()
	}
	if text == "" || runs {
		return
	}
	v, err := newVirtualNode(s, name, nil, text)
	if err != nil {
		s.log.Error("Virtual node cannot be kept", "cluster", name, "err", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.run(ctx) // Nothing is watched that could go back.
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[name] = func() { cancel(); <-done }
}
