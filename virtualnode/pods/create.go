package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
)

// errSealed is a pod whose sealed constraints cannot be read.
var errSealed = errors.New("the pod cannot be translated")

// errTaken is a lower pod of the same name that is ours and on its way out.
var errTaken = errors.New("an older pod of that name is still below")

// errBrought is what a pod brings along not coming: the pod itself was not sent.
var errBrought = errors.New("what the pod needs does not come below")

// reasonLeft is that of the event which says what of a pod does not come below with it.
const reasonLeft = "NotBrought"

// errForeign is a lower pod of the same name that is not ours.
var errForeign = errors.New("a pod of that name below belongs to someone else")

// create makes the lower pod: with its hint, or behind the gate if the hint can only be given to a pod that exists.
func (r *Reconciler) create(ctx context.Context, upper *corev1.Pod, memory *memory) (again time.Duration, err error) {
	if again := memory.attempts.wait(time.Now()); again > 0 {
		later, err := r.tellUnplaced(ctx, upper, memory)
		return sooner(again, later), err
	}
	if err := r.fence(upper); err != nil {
		return r.notCreated(ctx, upper, nil, err, memory)
	}
	translated := upper
	if enduring := r.reports().Enduring(upper); enduring != nil {
		translated = enduring // As it will be above in a moment.
	}
	lower, err := translate.LowerPod(translated, r.Target())
	if err != nil {
		return r.notCreated(ctx, upper, nil, fmt.Errorf("%w: %w", errSealed, err), memory)
	}
	down.Stamp(lower)
	hint := r.hints()
	node, again := hint.Ask(ctx, upper, &memory.asking)
	if again > 0 {
		return again, nil
	}
	mode := hint.Apply(lower, node)
	created, err := r.place(ctx, upper, lower)
	if err != nil {
		plain, _ := translate.LowerPod(translated, r.Target()) // Without its hint, as the extender sees it. It could be made before.
		return r.notCreated(ctx, upper, plain, err, memory)
	}
	memory.failed, memory.attempts = failure{}, attempts{}
	r.accepted(lower)
	r.Metrics.created(r.Name, "created", time.Since(memory.since))
	memory.wasBelow, memory.createdAt = true, time.Now()
	if created.Annotations[keys.BroughtDown] == lower.Annotations[keys.BroughtDown] { // Not if it was created before, from an older upper pod.
		memory.down.Created(upper, created)
	}
	r.Log.Debug("Pod is below", "pod", pair.KeyOf(upper), "uid", upper.UID, "hint", node, "mode", mode)
	if pair.Gated(created) {
		return 0, r.giveHint(ctx, upper, created, node, true, memory)
	}
	hint.Given(mode)
	return 0, nil
}

// giveHint gives a pod that waits behind our gate its hint and lets it go. An interruption leaves a gated pod, which tend
// takes up again.
func (r *Reconciler) giveHint(ctx context.Context, upper, lower *corev1.Pod, node string, whole bool, memory *memory) error {
	ungated, err := r.hints().Give(ctx, upper, lower, node, whole)
	if ungated {
		memory.ungated = lower.UID
	}
	return err
}

// place creates the lower pod, its namespace too if that is missing, or finds the one that exists already.
func (r *Reconciler) place(ctx context.Context, upper, lower *corev1.Pod) (*corev1.Pod, error) {
	namespace, err := r.Namespace(ctx, upper.Namespace)
	if err != nil {
		return nil, err
	}
	if namespace.UID != "" && (namespace.Ours || r.OwnerInOpenNamespaces) {
		lower.OwnerReferences = translate.OwnedByNamespace(lower.Namespace, namespace.UID)
	}
	left, err := r.Objects(ctx, upper)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBrought, err)
	}
	for _, why := range left {
		r.Events.Event(upper, corev1.EventTypeWarning, reasonLeft, "Its containers wait for what is not brought along: "+why.Error())
	}
	pods := r.Lower.Pods(lower.Namespace)
	created, err := pods.Create(ctx, lower, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return created, err
	}
	existing, err := pods.Get(ctx, lower.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the pod that has the name: %w", err)
	case existing.Labels[keys.Upper] != r.Target().Identity:
		return nil, errForeign
	case pair.UpperUID(existing) != upper.UID:
		return nil, errTaken
	default:
		return existing, nil // An attempt before this one came through.
	}
}

// notCreated notes why a pod was not created and tells its owner, once it lasts. lower is the pod that was sent, nil if there was
// none. A hiccup comes back as an error, to be tried again soon; what is refused is tried a few times a minute, whatever happens to
// the pod above meanwhile: our own writes and those of others are no reason to ask again.
func (r *Reconciler) notCreated(
	ctx context.Context, upper, lower *corev1.Pod, cause error, memory *memory,
) (again time.Duration, err error) {
	now := time.Now()
	if memory.failed.err == nil {
		memory.failed.since = now
	}
	memory.failed.err, memory.failed.times, memory.failed.sent = cause, memory.failed.times+1, lower
	reason := refusal(cause)
	soon := hiccup(cause)
	if soon {
		r.Metrics.created(r.Name, "failed", 0)
	} else {
		r.Metrics.created(r.Name, string(reason), 0)
		memory.attempts.refused(now)
	}
	later, err := r.tellUnplaced(ctx, upper, memory)
	if err != nil {
		return 0, err
	}
	if soon {
		return 0, fmt.Errorf("creating pod below: %w", cause)
	}
	r.Log.Log(ctx, memory.failed.level(), "Pod is refused below", "pod", pair.KeyOf(upper), "uid", upper.UID, "reason", reason, "err", cause)
	return sooner(memory.attempts.wait(now), later), nil
}

// level is that of the log: the first refusals of a pod are worth a warning.
func (f failure) level() slog.Level {
	if f.times <= patience {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// tellUnplaced tells the owner of a pod that is not below what keeps it from there, and learns from it, if it is time to. later > 0
// is when it will be.
func (r *Reconciler) tellUnplaced(ctx context.Context, upper *corev1.Pod, memory *memory) (later time.Duration, err error) {
	why, later := unplaced(upper, nil, memory.failed, time.Now())
	if why == nil || !r.Reachable() {
		return later, nil
	}
	if !hiccup(memory.failed.err) {
		r.refused(memory.failed, why.Reason)
	}
	return 0, r.reports().Unplaced(ctx, upper, why)
}
