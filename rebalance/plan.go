package rebalance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Limits bound the harm that a wrong judgement can do.
type Limits struct {
	// MaxPerCycle and MaxPerNamespacePerCycle bound one plan.
	MaxPerCycle             int `json:"maxPerCycle,omitempty"`
	MaxPerNamespacePerCycle int `json:"maxPerNamespacePerCycle,omitempty"`
	// MaxPerOwnerPerHour bounds the moves of one owner's pods, MaxPerHour all moves: the breaker.
	MaxPerOwnerPerHour int `json:"maxPerOwnerPerHour,omitempty"`
	MaxPerHour         int `json:"maxPerHour,omitempty"`
	// MaxUnplacedPerCycle and MaxUnplacedPerHour bound those of pods that never ran, which have nothing to lose; the others do not.
	MaxUnplacedPerCycle int `json:"maxUnplacedPerCycle,omitempty"`
	MaxUnplacedPerHour  int `json:"maxUnplacedPerHour,omitempty"`
}

// DefaultLimits are small: a stuck pod is rare, many of them are a fault elsewhere.
func DefaultLimits() Limits {
	return Limits{
		MaxPerCycle: 10, MaxPerNamespacePerCycle: 5, MaxPerOwnerPerHour: 3, MaxPerHour: 100,
		MaxUnplacedPerCycle: 20, MaxUnplacedPerHour: 1000,
	}
}

func (l Limits) validate() error {
	var errs []error
	for key, value := range map[string]int{
		"maxPerCycle": l.MaxPerCycle, "maxPerNamespacePerCycle": l.MaxPerNamespacePerCycle,
		"maxPerOwnerPerHour": l.MaxPerOwnerPerHour, "maxPerHour": l.MaxPerHour,
		"maxUnplacedPerCycle": l.MaxUnplacedPerCycle, "maxUnplacedPerHour": l.MaxUnplacedPerHour,
	} {
		if value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d is not at least 1; dryRun: true moves nothing", key, value))
		}
	}
	return errors.Join(errs...)
}

// Move is a pod to be taken off its virtual node.
type Move struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	UID       types.UID      `json:"uid"`
	Owner     snapshot.Owner `json:"owner"`
	Cluster   string         `json:"cluster"`
	Policy    string         `json:"policy"`
	Since     time.Time      `json:"since"`
	Reason    string         `json:"reason"`

	resourceVersion string
}

// Skip is a pod that a policy wants moved and that stays.
type Skip struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Reason    SkipReason `json:"reason"`

	uid types.UID
}

// SkipReason says why a pod stays. Stable: a metric label.
type SkipReason string

// The reasons, in the order in which they are looked at.
const (
	Terminating             SkipReason = "Terminating"
	ProtectedNamespace      SkipReason = "ProtectedNamespace"
	Kept                    SkipReason = "Kept"             // The annotation tessera.sh/keep.
	NoController            SkipReason = "NoController"     // Nothing would create the pod again.
	OwnerNotMovable         SkipReason = "OwnerNotMovable"  // Its controller is of no kind that is movable.
	GangMember              SkipReason = "GangMember"       // The others of its gang would stay.
	HasClaims               SkipReason = "HasClaims"        // Its volumes or devices may be bound to the cluster.
	LowerUnreachable        SkipReason = "LowerUnreachable" // There is no news of the cluster: it may run there.
	NoOtherCluster          SkipReason = "NoOtherCluster"   // The extender knows of no other cluster for it.
	JobBackoff              SkipReason = "JobBackoff"       // Its Job would count it as failed, and fails for it.
	MaxPerHour              SkipReason = "MaxPerHour"       // The breaker.
	MaxPerOwnerPerHour      SkipReason = "MaxPerOwnerPerHour"
	MaxPerNamespacePerCycle SkipReason = "MaxPerNamespacePerCycle"
	MaxPerCycle             SkipReason = "MaxPerCycle"
)

// Moved is a move of the past.
type Moved struct {
	At    time.Time
	Owner types.UID
	// Unplaced: the pod had not run.
	Unplaced bool
}

// Decision is what Plan returns: every pod that a policy wants moved is in exactly one of the two.
type Decision struct {
	Moves   []Move `json:"moves"`
	Skipped []Skip `json:"skipped"`
}

// A policy says which pods landed badly.
type policy interface {
	name() string
	// judge says since when, and why in a word, a pod stands badly; ok is false if it does not.
	judge(now time.Time, pod Pod) (since time.Time, reason string, ok bool)
}

// Plan decides which pods to move now, given the moves of the past. Those that have waited longest come first; the
// order of the arguments does not matter.
//
// Invariants, with M the moves: |M| <= MaxPerCycle; |M in one namespace| <= MaxPerNamespacePerCycle;
// |M and the last hour's| <= MaxPerHour; |M and the last hour's of one owner| <= MaxPerOwnerPerHour.
func Plan(now time.Time, pods []Pod, past []Moved, limits Limits, stay Stay, policies ...policy) Decision {
	budget := newBudget(now, past, limits)
	decision := Decision{Moves: []Move{}, Skipped: []Skip{}}
	for _, move := range wanted(now, pods, policies) {
		reason := stay.keeps(move.pod)
		if reason == "" {
			reason = budget.take(move.Move)
		}
		if reason != "" {
			decision.Skipped = append(decision.Skipped,
				Skip{Namespace: move.Namespace, Name: move.Name, Reason: reason, uid: move.UID})
			continue
		}
		decision.Moves = append(decision.Moves, move.Move)
	}
	return decision
}

type candidate struct {
	Move
	pod Pod
}

// wanted lists what the policies want moved, each pod once: the first policy that wants it names it.
func wanted(now time.Time, pods []Pod, policies []policy) []candidate {
	var found []candidate
	for _, pod := range pods {
		for _, policy := range policies {
			since, reason, ok := policy.judge(now, pod)
			if !ok {
				continue
			}
			found = append(found, candidate{pod: pod, Move: Move{
				Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Owner: pod.Owner, Cluster: pod.Cluster,
				Policy: policy.name(), Since: since, Reason: reason, resourceVersion: pod.ResourceVersion,
			}})
			break
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return found
}

// budget is what the limits leave.
type budget struct {
	limits    Limits
	cycle     int
	hour      int
	unplaced  struct{ cycle, hour int }
	owners    map[types.UID]int
	namespace map[string]int
}

func newBudget(now time.Time, past []Moved, limits Limits) *budget {
	b := &budget{limits: limits, owners: map[types.UID]int{}, namespace: map[string]int{}}
	for _, moved := range past {
		switch {
		case !moved.recent(now):
		case moved.Unplaced:
			b.unplaced.hour++
		default:
			b.hour++
			b.owners[moved.Owner]++
		}
	}
	return b
}

// recent reports whether the limits by the hour still count the move.
func (m Moved) recent(now time.Time) bool { return now.Sub(m.At) < time.Hour }

// take takes the room for a move, or says which limit leaves none.
func (b *budget) take(move Move) SkipReason {
	if move.Policy == policyStuck {
		return b.takeUnplaced()
	}
	switch {
	case b.hour >= b.limits.MaxPerHour:
		return MaxPerHour
	case b.owners[move.Owner.UID] >= b.limits.MaxPerOwnerPerHour:
		return MaxPerOwnerPerHour
	case b.namespace[move.Namespace] >= b.limits.MaxPerNamespacePerCycle:
		return MaxPerNamespacePerCycle
	case b.cycle >= b.limits.MaxPerCycle:
		return MaxPerCycle
	}
	b.cycle++
	b.hour++
	b.owners[move.Owner.UID]++
	b.namespace[move.Namespace]++
	return ""
}

// takeUnplaced is take for a pod that never ran.
func (b *budget) takeUnplaced() SkipReason {
	switch {
	case b.unplaced.hour >= b.limits.MaxUnplacedPerHour:
		return MaxPerHour
	case b.unplaced.cycle >= b.limits.MaxUnplacedPerCycle:
		return MaxPerCycle
	}
	b.unplaced.cycle++
	b.unplaced.hour++
	return ""
}
