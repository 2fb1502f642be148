package pods

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// Reasons for which a pod that is bound to the virtual node is not created below.
const (
	reasonNotAdmitted = "NotAdmitted"
	reasonDaemonSet   = "DaemonSetNotSupported"
)

// Welcome reports whether a pod may be created below: its owner has opted in, and it came through admission, which never
// marks pods of DaemonSets. A namespace's label is looked up, as anyone who may create pods can write the mark by hand.
func (r *Reconciler) Welcome(upper *corev1.Pod) bool {
	namespace, _ := r.Namespaces.Get(upper.Namespace) // What the cache does not have is asked for before anything is refused.
	return r.optedIn(upper, namespace) && (r.AcceptUnasked || (translate.Marked(upper) && !translate.OfDaemonSet(upper)))
}

// optedIn reports whether a pod may run on virtual nodes by its own label or else that of its namespace, which may be nil.
func (r *Reconciler) optedIn(upper *corev1.Pod, namespace *corev1.Namespace) bool {
	switch upper.Labels[keys.Enabled] {
	case "true":
		return namespace == nil || namespace.Labels[keys.Enabled] != "false"
	case "false":
		return false
	default:
		return r.Choice.Takes(namespace)
	}
}

// errFenced is a pod whose namespace may not use this lower cluster.
var errFenced = errors.New("the namespace's annotation " + keys.Clusters + " does not select this virtual node")

// fence returns errFenced for a pod whose namespace keeps its pods off this virtual node: whoever bound it there did not ask the extender,
// or the extender had not heard of it yet. What is below already stays.
func (r *Reconciler) fence(upper *corev1.Pod) error {
	namespace, err := r.Namespaces.Get(upper.Namespace)
	if err != nil {
		return nil //nolint:nilerr // What the cache does not have is not fenced as far as is known.
	}
	fence, err := seal.Fence(namespace)
	if err != nil {
		return fmt.Errorf("%w: %w", errFenced, err)
	}
	if !fence.Matches(labels.Set(r.Target().Labels)) {
		return errFenced
	}
	return nil
}

// failUnwelcome fails a pod that is not welcome: nobody has asked whether it fits below, or whoever bound it did not mean a lower
// cluster. A controller makes another at once, so its next pods wait, each longer than the one before.
func (r *Reconciler) failUnwelcome(ctx context.Context, upper *corev1.Pod) (again time.Duration, err error) {
	reason, message, err := r.objection(ctx, upper)
	if err != nil || reason == "" {
		return recheck, err
	}
	if again := r.storms.take(upper); again > 0 {
		message += ". It is not failed yet, so that its controller does not make one after another"
		return again, r.reports().Unplaced(ctx, upper, &up.Unplaced{Reason: keys.Reason(reason), Message: message})
	}
	r.Metrics.created(r.Name, reason, 0)
	r.Events.Event(upper, corev1.EventTypeWarning, reason, message)
	return 0, r.reports().Fail(ctx, upper, reason, message)
}

// objection says what there is against creating a pod; "" if the API server knows of nothing.
func (r *Reconciler) objection(ctx context.Context, upper *corev1.Pod) (reason, message string, err error) {
	switch {
	case r.AcceptUnasked:
	case translate.OfDaemonSet(upper):
		return reasonDaemonSet, fmt.Sprintf("Pods of DaemonSets do not run on virtual nodes: "+
			"give the DaemonSet a required node affinity, %s DoesNotExist", keys.Cluster), nil
	case !translate.Marked(upper):
		return reasonNotAdmitted, fmt.Sprintf("Pods run on virtual nodes only if they came through Tessera's admission: "+
			"label the namespace or the pod %s=true, and leave nodeName to the scheduler", keys.Enabled), nil
	}
	namespace, err := r.Upper.Namespaces().Get(ctx, upper.Namespace, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", "", fmt.Errorf("reading the upper namespace: %w", err)
	}
	if err == nil && r.optedIn(upper, namespace) {
		return "", "", nil
	}
	return reasonNotAdmitted, fmt.Sprintf("The namespace has not opted in: label it %s=true", keys.Enabled), nil
}
