package pods

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// step is what is to be done about a pod next.
type step string

const (
	idle    step = "idle"    // nothing
	create  step = "create"  // it is not below yet
	refuse  step = "refuse"  // it is bound to the virtual node and not Tessera's
	replace step = "replace" // it was below and has gone: say so above, so that its controller replaces it
	collect step = "collect" // what is below belongs to no upper pod any more: its deletion was seen
	orphan  step = "orphan"  // what is below belongs to no upper pod, and nobody knows why
	wait    step = "wait"    // what is below is an older pod of that name, on its way out
	end     step = "end"     // it is being deleted above and lives below
	remove  step = "remove"  // it is being deleted above and nothing is below
	tend    step = "tend"    // it is on both sides: finish its hint, bring changes down, report its status up
	abandon step = "abandon" // it should end below and cannot, as its lower node is lost: say so above
	stop    step = "stop"    // it is over above and runs below, as when the lower cluster went back to an earlier time
	release step = "release" // it ended above when its lower node was lost, and has gone below now
)

// known is what decides beside the two sides of a pod.
type known struct {
	wasBelow   bool // this process has created the lower pod or has seen it
	welcome    bool // the pod may be created below: it came through admission, or that is not asked for
	lost       bool // the lower pod cannot end, as its node is lost
	sawDeleted bool // this process saw the deletion of the upper pod that the lower one stands for
}

// decide compares the two sides of a pod. Either may be nil.
//
// Where the answer rests on something that is absent from a cache (replace, collect, orphan, remove, abandon, release,
// refuse), or on what a pod was (stop), whoever takes the step asks the API server first: a cache may lag behind it.
func decide(upper, lower *corev1.Pod, known known) step {
	switch {
	case upper == nil && lower == nil:
		return idle
	case standsForAnother(upper, lower):
		return decideAnother(upper, lower, known.sawDeleted)
	case upper.DeletionTimestamp != nil:
		if lower == nil {
			return remove
		}
		return end
	case snapshot.Finished(upper):
		return decideOver(upper, lower)
	case lower != nil:
		if known.lost {
			return abandon
		}
		return tend
	default:
		return decideAbsent(upper, known)
	}
}

// decideOver is what is to be done about an upper pod that is over.
func decideOver(upper, lower *corev1.Pod) step {
	switch {
	case lower == nil && held(upper):
		return release
	case lower != nil && lower.DeletionTimestamp == nil && !snapshot.Finished(lower) && !held(upper):
		return stop
	default:
		return idle
	}
}

// decideAbsent is what is to be done about an upper pod that should run and is not below.
func decideAbsent(upper *corev1.Pod, known known) step {
	switch {
	case known.wasBelow || hasRunBelow(upper):
		return replace
	case !known.welcome:
		return refuse
	default:
		return create
	}
}

// standsForAnother reports whether the lower pod stands for another upper pod than the one that is there, if any.
func standsForAnother(upper, lower *corev1.Pod) bool {
	return lower != nil && (upper == nil || pair.UpperUID(lower) != upper.UID)
}

// decideAnother decides about such a lower pod.
func decideAnother(upper, lower *corev1.Pod, sawDeleted bool) step {
	switch {
	case sawDeleted && lower.DeletionTimestamp == nil:
		return collect
	case upper != nil && upper.DeletionTimestamp != nil:
		return remove // What is below is none of its business.
	case lower.DeletionTimestamp != nil:
		return wait
	default:
		return orphan
	}
}

// hasRunBelow reports whether the status of the upper pod was ever told by a lower pod. It survives a restart.
func hasRunBelow(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning || pair.Condition(pod, keys.LowerScheduled) != nil
}
