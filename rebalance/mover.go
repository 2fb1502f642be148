package rebalance

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// avoider tells the scheduling side to keep a pod's owner off a cluster; it holds from the moment avoid returns.
type avoider interface {
	avoid(ctx context.Context, move Move) error
	// others are the virtual nodes with room for a pod, without the one that it is moved from.
	others(ctx context.Context, move Move, pod *corev1.Pod) ([]string, error)
}

// evictor changes the upper cluster. An error of evict is one of the API server; moved lists what record wrote.
type evictor interface {
	evict(ctx context.Context, move Move) error
	record(ctx context.Context, now time.Time, move Move) error
	moved(ctx context.Context) ([]Moved, error)
	// pod reads a pod as it would be without its node, spares whether its controller can lose it.
	pod(ctx context.Context, move Move) (*corev1.Pod, error)
	spares(ctx context.Context, move Move) (bool, error)
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
	takes    func(node string, pod *corev1.Pod) bool // by the scheduler's own filters, whatever the room
	policies []policy
	limits   Limits
	stay     Stay
	dryRun   bool
	// needsTarget leaves pods where they are for which the extender knows of no other cluster.
	needsTarget bool
	extender    avoider
	cluster     evictor

	mu    sync.Mutex
	past  []Moved
	waits map[types.UID]wait // pods that there was no use in moving a moment ago

	told map[notice]bool // What the last cycle logged and counted, so that the next does not again.
}

// wait is why a pod stays for a while.
type wait struct {
	reason SkipReason
	until  time.Time
}

// waitFor is how long it is until a pod is looked at again that could not be moved.
const waitFor = 30 * time.Second

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
	maps.DeleteFunc(m.waits, func(_ types.UID, w wait) bool { return !now.Before(w.until) })
	waits := maps.Clone(m.waits)
	m.mu.Unlock()
	pods := m.pods()
	for i := range pods {
		pods[i].Waits = waits[pods[i].UID].reason
	}
	return Plan(now, pods, past, m.limits, m.stay, m.policies...)
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
	reason, err := m.useless(ctx, move)
	switch {
	case apierrors.IsNotFound(err):
		return resultChanged
	case err != nil:
		log.Warn("Not moved: nobody knows whether it can go elsewhere, trying again", "err", err)
		return resultFailed
	case reason != "":
		m.mu.Lock()
		m.waits[move.UID] = wait{reason, m.now().Add(waitFor)}
		m.mu.Unlock()
		return resultUseless
	}
	if err := m.extender.avoid(ctx, move); err != nil {
		log.Warn("Not moved: the extender does not know that the cluster is to be avoided", "err", err)
		return resultAvoidFailed
	}
	err = m.cluster.evict(ctx, move)
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
	m.past = append(m.past, Moved{At: now, Owner: move.Owner.UID, Unplaced: move.Policy == policyStuck})
	m.mu.Unlock()
	log.Info("Moved")
	if err := m.cluster.record(ctx, now, move); err != nil {
		log.Warn("A restart will not know of this move", "err", err)
	}
	return resultMoved
}

// useless says why a move would do no good, "" if it is worth making.
func (m *mover) useless(ctx context.Context, move Move) (SkipReason, error) {
	spares, err := m.cluster.spares(ctx, move)
	if err != nil {
		return "", err
	}
	if !spares {
		return JobBackoff, nil
	}
	if !m.needsTarget {
		return "", nil
	}
	pod, err := m.cluster.pod(ctx, move)
	if err != nil {
		return "", err
	}
	others, err := m.extender.others(ctx, move, pod)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(others, func(node string) bool { return m.takes(node, pod) }) {
		return NoOtherCluster, nil
	}
	return "", nil
}

func (m *mover) logger(move Move) *slog.Logger {
	return m.log.With("pod", move.Namespace+"/"+move.Name, "owner", move.Owner.Kind+"/"+move.Owner.Name,
		"cluster", move.Cluster, "policy", move.Policy, "since", move.Since)
}
