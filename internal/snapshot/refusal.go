package snapshot

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// AvoidRefusing is how long a node whose kubelet refused a pod is left out for pods of the same shape.
const AvoidRefusing = 5 * time.Minute

// refusals are the reasons that a kubelet gives a pod that it does not let in (k8s.io/kubernetes/pkg/kubelet 1.37:
// lifecycle, cm, sysctl, allocation, volumemanager), beside OutOf and the name of a resource. Those of a node in trouble,
// Evicted and NodeShutdown, are not among them: its taints and conditions tell, and pods that ran have them, too.
var refusals = []string{
	"UnexpectedAdmissionError", "UnknownReason", "UnexpectedPredicateFailureType",
	"NodeName", "NodePorts", "NodeAffinity", "TaintToleration",
	"InvalidNodeInfo", "PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported", "SupplementalGroupsPolicyNotSupported",
	"InitContainerRestartPolicyForbidden", "PodFeatureUnsupported", "PodLevelResourcesNotSupported", "AppArmor", "SysctlForbidden",
	"TopologyAffinityError", "SMTAlignmentError", "EmptyPodSharedPoolError", "VolumeAttachmentLimitExceeded",
}

const outOf = "OutOf"

// Refusal is what a kubelet said to a pod.
type Refusal struct {
	// Reason is one of the kubelet's, such as OutOfcpu.
	Reason string

	shape shape
	at    time.Time // as near as the pod says
}

// newRefusal returns what the kubelet of its node said to a pod that it did not let in, nil if it did.
func newRefusal(pod *corev1.Pod, requests Resources) *Refusal {
	reason := pod.Status.Reason
	if pod.Status.Phase != corev1.PodFailed || pod.Spec.NodeName == "" ||
		!strings.HasPrefix(reason, outOf) && !slices.Contains(refusals, reason) {
		return nil
	}
	return &Refusal{Reason: reason, shape: shapeOf(requests, pod), at: refusedAt(pod)}
}

// refusedAt is when a kubelet refused a pod, as near as the pod says: kubelets write down when they first saw it.
func refusedAt(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime != nil {
		return pod.Status.StartTime.Time
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c.LastTransitionTime.Time
		}
	}
	return pod.CreationTimestamp.Time
}

// shape is equal for pods of which a kubelet that refused one is likely to refuse the others: they ask for the same amounts
// and for the same kind of node. Nothing is in it that admission below often adds, such as tolerations.
type shape [sha256.Size]byte

func shapeOf(requests Resources, pod *corev1.Pod) shape {
	parts := []any{requests.Quantities()}
	if pod != nil {
		parts = append(parts, pod.Spec.NodeSelector)
		if affinity := pod.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
			parts = append(parts, affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
	}
	text, err := json.Marshal(parts)
	if err != nil { // Strings and numbers always marshal.
		return shape{}
	}
	return sha256.Sum256(text)
}

// turned is what a kubelet has said: no pods of this shape on this node.
type turned struct {
	node  string
	shape shape
}

// turnAway remembers until when a node is left out for pods like this one of ours, and reports whether it was newly refused. What
// the first sight of a cluster shows is no news: its pods may have been refused long ago, and they say when.
func (c *cell) turnAway(now time.Time, was, own *LowerPod, first bool) (news bool) {
	if own.Refusal == nil || was != nil && was.UID == own.UID && was.Refusal != nil {
		return false
	}
	from := now
	if first {
		from = own.Refusal.at
	}
	at := turned{node: own.Node, shape: own.Refusal.shape}
	if until := from.Add(AvoidRefusing); until.After(now) && until.After(c.refusals[at]) {
		c.refusals[at] = until
	}
	return !first
}

// refusing are the nodes whose kubelets have refused pods of the same shape lately.
func (c *cell) refusing(pod *Pod) map[int]bool {
	if len(c.refusals) == 0 {
		return nil
	}
	same := shapeOf(pod.Requests, pod.Object)
	nodes := map[int]bool{}
	for at := range c.refusals {
		if node, there := c.rows[at.node]; there && at.shape == same {
			nodes[node] = true
		}
	}
	return nodes
}

// Refusals counts, by node, the shapes of pods for which it is left out now.
func (p *Pool) Refusals(name string) map[string]int {
	count := map[string]int{}
	if c := p.cells[name]; c != nil {
		for at := range c.refusals {
			count[at.node]++
		}
	}
	return count
}

// forgive lets the nodes take pods again whose time is over.
func (p *Pool) forgive(now time.Time) {
	for _, c := range p.cells {
		before := len(c.refusals)
		maps.DeleteFunc(c.refusals, func(_ turned, until time.Time) bool { return !now.Before(until) })
		if len(c.refusals) < before {
			c.shaken++
		}
	}
}
