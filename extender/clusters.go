package extender

import (
	"context"
	"slices"
	"sync"
	"time"

	gocache "github.com/patrickmn/go-cache"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// runCluster watches a lower cluster until ctx ends or its history goes back, then forgets it.
func (e *Extender) runCluster(ctx context.Context, name string, config *rest.Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watch, err := lower.NewWatch(name, e.identity, config, e.log, nil)
	if err != nil {
		e.brokenCluster(name, err.Error())
		return nil
	}
	watch.Apply = func(changes *snapshot.Changes) (worked time.Duration) {
		e.takeOver(name, func(now time.Time) snapshot.News {
			defer func() { worked = time.Since(now) }()
			return e.pool.Apply(now, changes)
		})
		return worked
	}
	log := e.log.With("cluster", name)
	state := &clusterState{watch: watch, claims: lower.NewClaims(watch.Client(), log, e.touch)}
	state.around = lower.NewAround(watch.Client(), log, func() {
		watch.Touch()
		e.touch()
	})
	watch.Around = state.around
	e.around.Store(name, state.around)
	defer e.around.Delete(name)
	e.mu.Lock()
	e.clusters[name] = state
	e.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() { state.around.Run(ctx) })
	group.Go(func() { state.claims.Run(ctx) })
	err = watch.Run(ctx)
	stop()
	group.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.clusters, name)
	e.pool.Forget(name)
	e.exact = slices.DeleteFunc(e.exact, func(b *built) bool { return b.name == name })
	e.touch()
	return err
}

// brokenCluster notes a kubeconfig that cannot be used, or with an empty text that it can be again. A cluster that
// runs on from an earlier file keeps its watch.
func (e *Extender) brokenCluster(name, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.clusters[name]
	switch {
	case state == nil && text != "":
		e.clusters[name] = &clusterState{broken: text}
	case state != nil && state.watch == nil && text == "":
		delete(e.clusters, name)
	case state != nil:
		state.broken = text
	}
}

// takeOver has the pool told what is new in a cluster.
func (e *Extender) takeOver(cluster string, tell func(now time.Time) snapshot.News) {
	e.mu.Lock()
	first := !e.pool.Has(cluster)
	news := tell(time.Now())
	e.mu.Unlock()
	if first { // A cluster that left and came back has lost its holds. It does not count as synced before this returns.
		e.upper.observeCached(cluster)
	}
	for _, pod := range news.Refused {
		e.metrics.refusals.WithLabelValues(cluster).Inc()
		e.log.Warn("A kubelet refused a pod, its node is avoided for such pods for a while",
			"cluster", cluster, "node", pod.Node, "uid", pod.UpperUID, "reason", pod.Refusal.Reason)
	}
	for _, uid := range news.Overpromised {
		if e.told.Add(string(uid), nil, gocache.DefaultExpiration) != nil {
			continue // Told before: the pod hangs on, or its cluster left and came back.
		}
		e.metrics.overpromise.WithLabelValues(cluster).Inc()
		e.log.Warn("The lower scheduler found no node for a pod that was accepted", "cluster", cluster, "uid", uid)
	}
	e.touch()
}

// usable returns why a cluster cannot be judged now, or "". The caller holds e.mu.
func (e *Extender) usable(name string, now time.Time) keys.Reason {
	state := e.clusters[name]
	if !e.ready.Load() || state == nil || state.watch == nil || e.upperView.blind(now) {
		return keys.NotSynced
	}
	health := state.watch.Health()
	switch {
	case !health.Synced:
		return keys.NotSynced
	case now.Sub(health.Contact) > e.config.MaxViewAge.Duration:
		return keys.Stale
	default:
		return ""
	}
}
