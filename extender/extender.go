package extender

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	gocache "github.com/patrickmn/go-cache"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	recorder "k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/registry"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Extender answers kube-scheduler and whoever asks it why.
type Extender struct {
	config   *Config
	log      *slog.Logger
	client   kubernetes.Interface
	identity string
	metrics  *metrics
	upper    *upper
	avoid    *avoidList
	verdicts *gocache.Cache // namespace/name of a pod -> *record, the last answer about it
	refused  *gocache.Cache // UIDs of pods that were told which clusters refuse them
	events   recorder.EventRecorder
	told     *gocache.Cache // UIDs of over-promised pods that were counted, so that each counts once
	changed  chan struct{}  // something changed that may let a waiting pod fit
	around   sync.Map       // name of a cluster -> *lower.Around

	upperView upperView
	alive     upperView   // when the lock was last to be had
	ready     atomic.Bool // the start is over: caches in sync, the consistent read observed, settle passed

	mu           sync.Mutex // Makes check-and-hold one step: every use of what stands below.
	pool         *snapshot.Pool
	clusters     map[string]*clusterState
	exact        []*built // the lower clusters last asked about exactly, the newest last
	waiting      map[types.UID]*waiter
	unaskedBinds map[string]*unaskedBinds // by cluster
	armed        bool                     // touch will be called by a timer
	looked       snapshot.Marks           // what the last look at waiting pods has seen

	look *look               // that is under way; of wake alone
	seen map[string]seenNode // virtual nodes as the last look saw them; of wake alone
}

// clusterState is a lower cluster as the registry knows it.
type clusterState struct {
	watch  *lower.Watch // nil while its kubeconfig cannot be used
	around *lower.Around
	claims *lower.Claims
	broken string // why its kubeconfig cannot be used
}

// Run answers until ctx ends.
func Run(ctx context.Context, config *Config) error {
	log := config.Logger("extender")
	client, err := serve.UpperClient("extender", config.UpperKubeconfig)
	if err != nil {
		return err
	}
	identity, err := serve.Identity(ctx, log, client, config.Identity)
	if err != nil {
		return err
	}
	e := newExtender(config, log, client, identity)
	guard, err := serve.NewGuard(client)
	if err != nil {
		return err
	}
	broadcaster := recorder.NewBroadcaster(recorder.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	e.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tessera-extender"})
	handler := e.routes(guard)
	folder := &registry.Folder{Dir: config.Clusters, Log: log, Start: e.runCluster, Broken: e.brokenCluster}
	return serve.Run(ctx,
		func(ctx context.Context) error { return config.Serve(ctx, log, handler) },
		func(ctx context.Context) error { return folder.RunWithTokens(ctx, client, config.Namespace) },
		e.upper.run,
		e.start,
		e.sweep,
		e.wake,
		e.watchUpper,
		e.beat,
	)
}

func newExtender(config *Config, log *slog.Logger, client kubernetes.Interface, identity string) *Extender {
	e := &Extender{
		config: config, log: log, client: client, identity: identity,
		metrics:      newMetrics(),
		avoid:        newAvoidList(log, client, config.Namespace),
		verdicts:     gocache.New(refusedLimit, time.Minute),
		told:         gocache.New(refusedLimit, time.Minute),
		refused:      gocache.New(refusedEvery, time.Minute),
		events:       &recorder.FakeRecorder{}, // Run has a real one.
		changed:      make(chan struct{}, 1),
		pool:         snapshot.NewPool(),
		clusters:     map[string]*clusterState{},
		waiting:      map[types.UID]*waiter{},
		unaskedBinds: map[string]*unaskedBinds{},
		looked:       snapshot.Marks{},
	}
	e.upper = newUpper(e)
	e.metrics.watch(e)
	return e
}

// start ends the time in which virtual nodes are refused: once what the upper cluster had promised before this
// process lived is known. Caches in sync, then a consistent list (a cache may lag behind the binds of the moment),
// then settle, in which binds in flight land.
func (e *Extender) start(ctx context.Context) error {
	if !e.upper.waitForSync(ctx) {
		return nil
	}
	if err := e.avoid.read(ctx); err != nil {
		e.log.Error("Reading the avoid list failed, starting with an empty one", "err", err)
	}
	for {
		err := e.upper.observeAll(ctx)
		if err == nil {
			break
		}
		e.log.Error("Listing upper pods failed, virtual nodes are refused until it works", "err", err)
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
	if !sleep(ctx, e.config.Settle.Duration) {
		return nil
	}
	e.mu.Lock()
	e.ready.Store(true)
	e.mu.Unlock()
	e.log.Info("Ready", "identity", e.identity)
	e.touch()
	return nil
}

// sweep ends holds that no event has ended. What is missing from a view that is blind is no evidence.
func (e *Extender) sweep(ctx context.Context) error {
	for sleep(ctx, 5*time.Second) {
		if e.upperView.blind(time.Now()) {
			continue
		}
		exists := e.upper.pods.HasSynced()
		e.mu.Lock()
		ended, _ := e.pool.Expire(time.Now())
		gone := 0
		if e.ready.Load() && exists {
			gone = e.pool.Keep(time.Now(), e.upper.uids())
		}
		e.mu.Unlock()
		if ended > 0 || gone > 0 {
			e.log.Warn("Holds ended without an event of their pods", "byClock", ended, "podGone", gone)
		}
		e.touch() // Nodes whose kubelets refused pods are asked again, without a word.
	}
	return nil
}

// readiness returns why the extender is not ready to judge, or nil.
func (e *Extender) readiness() error {
	if !e.ready.Load() {
		return fmt.Errorf("%s: what the upper cluster has promised is not known yet", keys.NotSynced)
	}
	return nil
}

// liveness returns why the extender hangs, or nil.
func (e *Extender) liveness() error {
	last := e.alive.contact.Load()
	if last == nil || time.Since(*last) < hungAfter {
		return nil
	}
	return fmt.Errorf("no question has been answered since %s: something keeps the lock", last.UTC().Format(time.RFC3339))
}

// touchSoon asks for another look in a while; the caller holds e.mu. One timer serves all who ask.
func (e *Extender) touchSoon() {
	if e.armed {
		return
	}
	e.armed = true
	time.AfterFunc(wakeAgain, func() {
		e.mu.Lock()
		e.armed = false
		e.mu.Unlock()
		e.touch()
	})
}

// touch notes that something may have made room.
func (e *Extender) touch() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// sleep waits, and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
