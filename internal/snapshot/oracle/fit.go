package oracle

import (
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// refuses returns why a node does not take the pod for what the node itself is, or "".
func (p *Pod) refuses(node *Node) keys.Reason {
	if !node.Ready || node.Leaving || node.Object.Spec.Unschedulable && !p.tolerates(&unschedulable) {
		return keys.Taint
	}
	if ok, _ := p.affinity.Match(node.Object); !ok || p.malformed { // A term that cannot be parsed matches nothing.
		return keys.NodeAffinity
	}
	if p.tainted(node) {
		return keys.Taint
	}
	if slices.ContainsFunc(p.features, func(feature string) bool { return !slices.Contains(node.Object.Status.DeclaredFeatures, feature) }) {
		return keys.NodeAffinity
	}
	return ""
}

// tainted reports whether the node has a taint that the pod does not tolerate.
func (p *Pod) tainted(node *Node) bool {
	return slices.ContainsFunc(node.Object.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule && !p.tolerates(&t)
	})
}

// unschedulable is the taint that stands for a cordon (NodeUnschedulable compares with it).
var unschedulable = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func (p *Pod) tolerates(taint *corev1.Taint) bool {
	return slices.ContainsFunc(p.tolerations, func(t corev1.Toleration) bool {
		return t.ToleratesTaint(logr.Discard(), taint, false)
	})
}

// Fits reports whether a node takes the pod with this much free, whatever pods are around it, and if not, why.
func (p *Pod) Fits(node *Node, free Resources) (keys.Reason, bool) {
	if reason := p.refuses(node); reason != "" {
		return reason, false
	}
	if !free.Fits(p.Requests) {
		return insufficient(free.Short(p.Requests)), false
	}
	return "", true
}

// insufficient names the first resource that is missing.
func insufficient(short Resources) keys.Reason {
	reason := keys.InsufficientExtendedResource
	found := false
	short.Each(func(name corev1.ResourceName, amount int64) {
		if amount > 0 && !found {
			reason, found = shortage(name), true
		}
	})
	return reason
}

func shortage(name corev1.ResourceName) keys.Reason {
	switch name {
	case corev1.ResourceCPU:
		return keys.InsufficientCPU
	case corev1.ResourceMemory:
		return keys.InsufficientMemory
	case corev1.ResourceEphemeralStorage:
		return keys.InsufficientEphemeralStorage
	case corev1.ResourcePods:
		return keys.InsufficientPods
	default:
		return keys.InsufficientExtendedResource
	}
}
