package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
)

// patience is how many attempts a refusal is taken for one that will pass by itself: the default ServiceAccount of
// a new namespace appears a moment after it, quotas and webhooks come up.
const patience = 4

// errSealed is a pod whose sealed constraints cannot be read.
var errSealed = errors.New("the pod cannot be translated")

// errTaken is a lower pod of the same name that is ours and on its way out.
var errTaken = errors.New("an older pod of that name is still below")

// errForeign is a lower pod of the same name that is not ours.
var errForeign = errors.New("a pod of that name below belongs to someone else")

// create makes the lower pod: with its hint, or behind the gate if the hint can only be given to a pod that exists.
func (r *Reconciler) create(ctx context.Context, upper *corev1.Pod, memory *memory) (again time.Duration, err error) {
	translated := upper
	if enduring := r.reports().Enduring(upper); enduring != nil {
		translated = enduring // As it will be above in a moment.
	}
	lower, err := translate.LowerPod(translated, r.Target())
	if err != nil {
		return 0, r.notCreated(ctx, upper, fmt.Errorf("%w: %w", errSealed, err))
	}
	down.Stamp(lower)
	hint := r.hints()
	node, again := hint.Ask(ctx, upper, &memory.asking)
	if again > 0 {
		return again, nil
	}
	mode := hint.Apply(lower, node)
	created, err := r.place(ctx, upper, lower)
	if errors.Is(err, errForeign) || errors.Is(err, namespaces.ErrForeign) {
		return 0, r.giveWay(ctx, upper, r.notCreated(ctx, upper, err))
	}
	if err != nil {
		return 0, r.notCreated(ctx, upper, err)
	}
	r.Metrics.created(r.Name, "created", time.Since(memory.since))
	memory.wasBelow, memory.createdAt = true, time.Now()
	if created.Annotations[keys.UpperSum] == lower.Annotations[keys.UpperSum] { // Not if it was created before, from an older upper pod.
		memory.down.Created(upper, created)
	}
	r.Log.Debug("Pod is below", "pod", pair.KeyOf(upper), "uid", upper.UID, "hint", node, "mode", mode)
	if pair.Gated(created) {
		return 0, r.giveHint(ctx, upper, created, node, memory)
	}
	hint.Given(mode)
	return 0, nil
}

// giveHint gives a pod that waits behind our gate its hint and lets it go. An interruption leaves a gated pod, which tend
// takes up again.
func (r *Reconciler) giveHint(ctx context.Context, upper, lower *corev1.Pod, node string, memory *memory) error {
	ungated, err := r.hints().Give(ctx, upper, lower, node)
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

// notCreated tells the owner of the pod what keeps it from being created, unless it is likely to pass by itself.
// The error comes back to be tried again.
func (r *Reconciler) notCreated(ctx context.Context, upper *corev1.Pod, cause error) error {
	reason := reasonOf(cause)
	r.Metrics.created(r.Name, outcome(reason), 0)
	if reason == "" || (reason != string(keys.NameConflict) && r.queue.NumRequeues(pair.KeyOf(upper)) < patience) {
		return fmt.Errorf("creating pod below: %w", cause)
	}
	if err := r.reports().Blame(ctx, upper, reason, cause.Error()); err != nil {
		return err
	}
	return fmt.Errorf("creating pod below: %w", cause)
}

// reasonRefused is the reason of the condition tessera.sh/LowerCreated and of events, beside those of internal/keys.
const reasonRefused = "LowerRefused"

// reasonOf names what the lower cluster (or translation) holds against a pod; "" for a hiccup.
func reasonOf(err error) string {
	notAllowed := (*translate.NotAllowed)(nil)
	switch {
	case errors.As(err, &notAllowed):
		return string(keys.NotAllowed)
	case errors.Is(err, errForeign), errors.Is(err, namespaces.ErrForeign):
		return string(keys.NameConflict)
	case errors.Is(err, errTaken), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ""
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return string(keys.Quota)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), errors.Is(err, errSealed):
		return reasonRefused
	default:
		return ""
	}
}

func outcome(reason string) string {
	if reason == "" {
		return "failed"
	}
	return reason
}
