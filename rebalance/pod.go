package rebalance

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Pod is what planning looks at of an upper pod on a virtual node.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	ResourceVersion string
	// Cluster is the virtual node, which is named after its lower cluster.
	Cluster string
	// Owner is the controller, or the pod itself where it has none.
	Owner       snapshot.Owner
	Terminating bool
	// Keep is the wish of the annotation tessera.sh/keep.
	Keep bool
	// Gang: it starts together with others. Claims: it has volumes or devices of its own, which may be bound to the cluster.
	Gang, Claims bool
	// Unplaced is what keeps it from a lower node, by the condition tessera.sh/LowerPlaced; "" if nothing does.
	Unplaced keys.Reason
	// Since is when this process first saw that, or when news of the cluster began to come, if that is later: clocks of other
	// clusters have no word in it, nor has what is old.
	Since time.Time
	// Stale: there are no news of its cluster.
	Stale bool
	// Waits is why it was not moved a moment ago, for as long as there is no use in trying again; "" if nothing is in the way.
	Waits SkipReason
}

// newPod reduces a pod; ok is false where it is not bound or does not wait.
func newPod(pod *corev1.Pod) (reduced Pod, ok bool) {
	_, gang := pod.Annotations[gangAnnotation]
	return Pod{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		Cluster:     pod.Spec.NodeName,
		Owner:       snapshot.OwnerOf(pod),
		Terminating: pod.DeletionTimestamp != nil,
		Keep:        pod.Annotations[keys.Keep] == "true",
		Gang:        gang,
		Claims:      slices.ContainsFunc(pod.Spec.Volumes, claimed) || len(pod.Spec.ResourceClaims) > 0,
		Unplaced:    unplaced(pod),
	}, pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending
}

const gangAnnotation = keys.Domain + "gang"

func claimed(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil }

func unplaced(pod *corev1.Pod) keys.Reason {
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerPlaced && c.Status == corev1.ConditionFalse {
			return keys.Reason(c.Reason)
		}
	}
	return ""
}

// keeps says why the pod must not be moved, whatever the limits.
func (s Stay) keeps(p Pod) SkipReason {
	switch {
	case p.Terminating:
		return Terminating
	case slices.Contains(s.ProtectedNamespaces, p.Namespace):
		return ProtectedNamespace
	case p.Keep:
		return Kept
	case p.Owner.UID == p.UID:
		return NoController
	case !slices.Contains(s.MovableOwners, p.Owner.Kind):
		return OwnerNotMovable
	case p.Gang:
		return GangMember
	case p.Claims:
		return HasClaims
	case p.Stale:
		return LowerUnreachable
	}
	return p.Waits
}

// Stay says which pods are never moved.
type Stay struct {
	// ProtectedNamespaces are those whose pods stay.
	ProtectedNamespaces []string `json:"protectedNamespaces"`
	// MovableOwners are the kinds of controllers that make another pod wherever it goes.
	MovableOwners []string `json:"movableOwners"`
}

// DefaultStay is what holds where the file is silent.
func DefaultStay() Stay {
	return Stay{
		ProtectedNamespaces: []string{metav1.NamespaceSystem, keys.Namespace},
		MovableOwners:       []string{"ReplicaSet", "ReplicationController", "StatefulSet", kindJob},
	}
}

// kindJob is the kind of controller that counts what is taken from it.
const kindJob = "Job"

// stuck is the policy for pods that are kept from every lower node, for whatever reason.
type stuck struct {
	after time.Duration
	by    []StuckAfter // the first that matches wins over after
}

// StuckAfter is the time after which pods of a cluster are stuck for a reason; "" is any.
type StuckAfter struct {
	Cluster string          `json:"cluster,omitempty"`
	Reason  keys.Reason     `json:"reason,omitempty"`
	After   metav1.Duration `json:"after"`
}

func (stuck) name() string { return policyStuck }

const policyStuck = "stuck"

func (s stuck) judge(now time.Time, pod Pod) (since time.Time, reason string, ok bool) {
	after := s.after
	for _, by := range s.by {
		if (by.Cluster == "" || by.Cluster == pod.Cluster) && (by.Reason == "" || by.Reason == pod.Unplaced) {
			after = by.After.Duration
			break
		}
	}
	elsewhere := pod.Unplaced != "" && pod.Unplaced != keys.ObjectsUnread && pod.Unplaced != keys.TokenRefused // Nor would others help.
	return pod.Since, string(pod.Unplaced), elsewhere && !pod.Since.IsZero() && now.Sub(pod.Since) > after
}

// onlyJudged keeps what newPod reads, so that the cache of waiting pods stays small.
func onlyJudged(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			DeletionTimestamp: pod.DeletionTimestamp, OwnerReferences: pod.OwnerReferences,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName, ResourceClaims: pod.Spec.ResourceClaims},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	for _, key := range []string{keys.Keep, gangAnnotation} {
		if text, set := pod.Annotations[key]; set {
			metav1.SetMetaDataAnnotation(&trimmed.ObjectMeta, key, text)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if claimed(v) {
			trimmed.Spec.Volumes = append(trimmed.Spec.Volumes, v)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerPlaced {
			trimmed.Status.Conditions = []corev1.PodCondition{c}
		}
	}
	return trimmed, nil
}
