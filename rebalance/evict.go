package rebalance

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// EventMoved is the reason of the event on a moved pod, and the mark by which a restart finds the moves again.
const EventMoved = "TesseraMoved"

// cluster is the upper cluster, as far as moves change it and remember themselves in it.
type cluster struct {
	client kubernetes.Interface
}

// evict asks the API server to evict exactly the pod that was judged: one that has changed since, perhaps because it
// has found its node, is a conflict.
func (c *cluster) evict(ctx context.Context, move Move) error {
	return c.client.PolicyV1().Evictions(move.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: move.Namespace, Name: move.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{
			UID: &move.UID, ResourceVersion: &move.resourceVersion,
		}},
	})
}

// record writes the event of a move. Its related object is the owner, so that moved can count by it.
func (c *cluster) record(ctx context.Context, now time.Time, move Move) error {
	at := metav1.NewTime(now)
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: move.Namespace, Name: "tessera-moved-" + string(move.UID)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: move.Namespace, Name: move.Name, UID: move.UID,
		},
		Related: &corev1.ObjectReference{
			Kind: move.Owner.Kind, Namespace: move.Owner.Namespace, Name: move.Owner.Name, UID: move.Owner.UID,
		},
		Action: move.Policy, Type: corev1.EventTypeNormal, Reason: EventMoved, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Message: fmt.Sprintf("Evicted by policy %s from cluster %s, which its owner avoids for a while", move.Policy, move.Cluster),
		Source:  corev1.EventSource{Component: "tessera-rebalance"},
	}
	if _, err := c.client.CoreV1().Events(move.Namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating event on pod %s/%s: %w", move.Namespace, move.Name, err)
	}
	return nil
}

// moved lists the moves that events remember: API servers keep them for an hour, which is as far as limits look back.
func (c *cluster) moved(ctx context.Context) ([]Moved, error) {
	events, err := c.client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("reason", EventMoved).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing events of past moves: %w", err)
	}
	var moves []Moved
	for _, event := range events.Items {
		var owner types.UID
		if event.Related != nil {
			owner = event.Related.UID
		}
		moves = append(moves, Moved{At: event.LastTimestamp.Time, Owner: owner, Unplaced: event.Action == policyStuck})
	}
	return moves, nil
}

// pod reads a pod as it is now, without what binds it, for the question where it would go.
func (c *cluster) pod(ctx context.Context, move Move) (*corev1.Pod, error) {
	pod, err := c.client.CoreV1().Pods(move.Namespace).Get(ctx, move.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading pod %s/%s: %w", move.Namespace, move.Name, err)
	}
	pod.Spec.NodeName, pod.ManagedFields, pod.Status = "", nil, corev1.PodStatus{}
	return pod, nil
}

// spares reports whether the controller of a pod can lose it. A Job counts a pod that is taken from it before it ran as failed
// (k8s.io/kubernetes/pkg/controller/job), unless its podFailurePolicy ignores disruptions.
func (c *cluster) spares(ctx context.Context, move Move) (bool, error) {
	if move.Owner.Kind != kindJob {
		return true, nil
	}
	job, err := c.client.BatchV1().Jobs(move.Namespace).Get(ctx, move.Owner.Name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("reading job %s/%s: %w", move.Namespace, move.Owner.Name, err)
	}
	return sparesPod(job), nil
}

func sparesPod(job *batchv1.Job) bool {
	if policy := job.Spec.PodFailurePolicy; policy != nil {
		for _, rule := range policy.Rules {
			for _, c := range rule.OnPodConditions {
				if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
					return rule.Action == batchv1.PodFailurePolicyActionIgnore
				}
			}
		}
	}
	return job.Spec.BackoffLimitPerIndex == nil && job.Spec.BackoffLimit != nil && job.Status.Failed < *job.Spec.BackoffLimit
}
