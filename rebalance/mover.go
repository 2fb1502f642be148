package rebalance

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// avoider tells the scheduling side to keep a pod's owner off a cluster; it holds from the moment avoid returns.
type avoider interface {
	avoid(ctx context.Context, move Move) error
}

// evictor changes the upper cluster. An error of evict is one of the API server; moved lists what record wrote.
type evictor interface {
	evict(ctx context.Context, move Move) error
	record(ctx context.Context, now time.Time, move Move) error
	moved(ctx context.Context) ([]Moved, error)
}

var (
	_ avoider = (*extender)(nil)
	_ evictor = (*cluster)(nil)
)

// mover makes plans and carries them out.
type mover struct {
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
	pods     func() []Pod
	policies []policy
	limits   Limits
	dryRun   bool
	extender avoider
	cluster  evictor

	mu   sync.Mutex
	past []Moved

	told map[notice]bool // What the last cycle logged and counted, so that the next does not again.
}

// notice is a thing worth saying once.
type notice struct {
	uid types.UID
	why string
}

// run plans every interval until ctx ends. It remembers past moves first: limits that a restart forgets are none.
func (m *mover) run(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for remembered := false; ; {
		if !remembered {
			remembered = m.remember(ctx)
		}
		if remembered {
			m.cycle(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (m *mover) remember(ctx context.Context) bool {
	past, err := m.cluster.moved(ctx)
	if err != nil {
		m.log.Error("Past moves are not known, so nothing is moved yet", "err", err)
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.past = past
	return true
}

// plan decides what the moment asks for. Anyone may call it at any time.
func (m *mover) plan() Decision {
	now := m.now()
	m.mu.Lock()
	m.past = slices.DeleteFunc(m.past, func(moved Moved) bool { return !moved.recent(now) })
	past := slices.Clone(m.past)
	m.mu.Unlock()
	return Plan(now, m.pods(), past, m.limits, m.policies...)
}

// cycle makes one plan, tells it, and carries it out unless this is a dry run.
func (m *mover) cycle(ctx context.Context) {
	decision := m.plan()
	m.metrics.pods.Set(float64(len(decision.Moves) + len(decision.Skipped)))
	m.tell(decision)
	if m.dryRun {
		return
	}
	for _, move := range decision.Moves {
		m.metrics.moves.WithLabelValues(move.Policy, m.move(ctx, move)).Inc()
	}
}

// tell logs and counts skips, and in a dry run moves, that the last cycle did not have.
func (m *mover) tell(decision Decision) {
	told := map[notice]bool{}
	for _, skip := range decision.Skipped {
		what := notice{skip.uid, string(skip.Reason)}
		told[what] = true
		if !m.told[what] {
			m.metrics.skipped.WithLabelValues(string(skip.Reason)).Inc()
			m.log.Warn("Not moved", "pod", skip.Namespace+"/"+skip.Name, "reason", skip.Reason)
		}
	}
	if m.dryRun {
		for _, move := range decision.Moves {
			what := notice{move.UID, move.Policy + " " + move.Cluster}
			told[what] = true
			if !m.told[what] {
				m.metrics.moves.WithLabelValues(move.Policy, resultDryRun).Inc()
				m.logger(move).Info("Would be moved (dryRun)")
			}
		}
	}
	m.told = told
}

// move has the cluster avoided, then evicts. A pod whose owner does not avoid the cluster stays: it would go back.
func (m *mover) move(ctx context.Context, move Move) (result string) {
	log := m.logger(move)
	if err := m.extender.avoid(ctx, move); err != nil {
		log.Warn("Not moved: the extender does not know that the cluster is to be avoided", "err", err)
		return resultAvoidFailed
	}
	err := m.cluster.evict(ctx, move)
	switch {
	case apierrors.IsTooManyRequests(err):
		log.Info("Not moved: eviction is not allowed now, trying again", "err", err)
		return resultThrottled
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		log.Info("Not moved: the pod has changed", "err", err)
		return resultChanged
	case err != nil:
		log.Error("Moving failed", "err", err)
		return resultFailed
	}
	now := m.now()
	m.mu.Lock()
	m.past = append(m.past, Moved{At: now, Owner: move.Owner.UID})
	m.mu.Unlock()
	log.Info("Moved")
	if err := m.cluster.record(ctx, now, move); err != nil {
		log.Warn("A restart will not know of this move", "err", err)
	}
	return resultMoved
}

func (m *mover) logger(move Move) *slog.Logger {
	return m.log.With("pod", move.Namespace+"/"+move.Name, "owner", move.Owner.Kind+"/"+move.Owner.Name,
		"cluster", move.Cluster, "policy", move.Policy, "since", move.Since)
}
