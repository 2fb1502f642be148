package pods

import (
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/objects"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/tokens"
)

// A bound pod may be kept from a lower node for a moment by what passes by itself: the default ServiceAccount of a new namespace
// appears after it, a scheduler takes its time. So it is told after patience attempts to create it, or once it lasts for tellAfter.
const (
	patience  = 3
	tellAfter = 10 * time.Second
)

// failure is what became of the attempts to create a lower pod; the zero value is none.
type failure struct {
	err   error
	times int
	since time.Time
	sent  *corev1.Pod // nil where none was
}

// unplaced says what keeps a bound pod from a lower node, nil if nothing does, or if it is too early to speak of it. later > 0 is
// when it will not be too early any more. It looks at what there is to see, not at who is to blame: a new kind of refusal is told
// and moved like all others.
func unplaced(upper, lower *corev1.Pod, failed failure, now time.Time) (why *up.Unplaced, later time.Duration) {
	switch {
	case upper.DeletionTimestamp != nil || snapshot.Finished(upper) || upper.Spec.NodeName == "":
		return nil, 0
	case lower == nil:
		return uncreated(failed, now)
	case lower.Spec.NodeName != "" || lower.DeletionTimestamp != nil || snapshot.Finished(lower) || pair.Gated(lower):
		return nil, 0
	case len(lower.Spec.SchedulingGates) > 0:
		return since(lower.CreationTimestamp.Time, now, up.Unplaced{
			Reason:  keys.Gated,
			Message: "Scheduling gates below hold it back: " + gates(lower),
		})
	}
	scheduled := pair.Condition(lower, corev1.PodScheduled)
	if scheduled == nil || scheduled.Status == corev1.ConditionTrue {
		return since(lower.CreationTimestamp.Time, now, up.Unplaced{
			Reason: keys.NotScheduled, Message: "No scheduler of the lower cluster has looked at it",
		})
	}
	return since(scheduled.LastTransitionTime.Time, now, up.Unplaced{Reason: keys.Unschedulable, Message: scheduled.Message})
}

// uncreated is unplaced for a pod that is not below.
func uncreated(failed failure, now time.Time) (why *up.Unplaced, later time.Duration) {
	if failed.err == nil {
		return nil, 0 // It is on its way.
	}
	reason := refusal(failed.err)
	if final(reason) || failed.times >= patience && !hiccup(failed.err) {
		return &up.Unplaced{Reason: reason, Message: failed.err.Error()}, 0
	}
	return since(failed.since, now, up.Unplaced{Reason: reason, Message: failed.err.Error()})
}

// since has a reason told once it has lasted for tellAfter. The time is that of another cluster's clock: what lies ahead is now.
func since(begin, now time.Time, why up.Unplaced) (*up.Unplaced, time.Duration) {
	if begin.IsZero() {
		begin = now
	}
	if left := tellAfter - max(0, now.Sub(begin)); left > 0 {
		return nil, left
	}
	return &why, 0
}

func gates(pod *corev1.Pod) string {
	var names []string
	for _, gate := range pod.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return strings.Join(names, ", ")
}

// final reports whether a reason will not pass by itself, so that there is nothing to wait for.
func final(reason keys.Reason) bool {
	return slices.Contains([]keys.Reason{keys.NameConflict, keys.NotAllowed, keys.Fenced}, reason)
}

// refusal names what keeps a pod from being created. RefusedBelow is whatever has no name of its own.
func refusal(err error) keys.Reason {
	notAllowed := (*translate.NotAllowed)(nil)
	text := err.Error()
	switch {
	case errors.As(err, &notAllowed):
		return keys.NotAllowed
	case errors.Is(err, errFenced):
		return keys.Fenced
	case foreign(err):
		return keys.NameConflict
	case errors.Is(err, objects.ErrUnread):
		return keys.ObjectsUnread
	case errors.Is(err, tokens.ErrRefused):
		return keys.TokenRefused
	case errors.Is(err, policies.ErrNotTheSame):
		return keys.NetworkPolicy
	case errors.Is(err, errTaken):
		return reasonOrphan
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return keys.NamespaceEnding
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		return keys.Quota
	case apierrors.IsForbidden(err) && strings.Contains(text, "RuntimeClass "):
		return keys.RuntimeClass
	case apierrors.IsForbidden(err) && strings.Contains(text, "no PriorityClass with name"):
		return keys.PriorityClass
	default:
		return keys.RefusedBelow
	}
}

// foreign reports whether a name is somebody else's below: the pod's, its namespace's, or that of what it brings along.
func foreign(err error) bool {
	return slices.ContainsFunc([]error{errForeign, namespaces.ErrForeign, pair.ErrForeign},
		func(taken error) bool { return errors.Is(err, taken) })
}

// hiccup reports whether an error is likely to pass within moments, so that the next attempt may come soon: a cache or a new
// namespace is behind, the server is busy, the connection broke.
func hiccup(err error) bool {
	switch {
	case foreign(err), errors.Is(err, errSealed), errors.Is(err, errFenced), errors.Is(err, tokens.ErrRefused),
		errors.Is(err, policies.ErrNotTheSame):
		return false
	case errors.Is(err, objects.ErrUnread):
		return !apierrors.IsForbidden(err)
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "error looking up service account"):
		return true
	default:
		return errors.Is(err, errTaken) || !pair.Lasting(err)
	}
}
