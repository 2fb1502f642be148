package exact

import (
	"strings"

	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Refusal is why a node does not take a pod, in kube-scheduler's words.
type Refusal struct {
	Plugin string // that refused, such as "NodeResourcesFit"
	Text   string // its reasons, joined by ", ", such as "Insufficient cpu, Insufficient memory"; may hold names and numbers
}

func newRefusal(status *fwk.Status) *Refusal {
	return &Refusal{Plugin: status.Plugin(), Text: status.Message()}
}

// String reads "PLUGIN: text, text".
func (r Refusal) String() string { return r.Plugin + ": " + r.Text }

// Reason is the refusal in Tessera's few words.
func (r Refusal) Reason() keys.Reason {
	switch r.Plugin {
	case names.NodeUnschedulable, names.TaintToleration:
		return keys.Taint
	case names.NodePorts:
		return keys.HostPort
	case names.NodeResourcesFit:
		return insufficient(r.Text)
	case names.VolumeRestrictions, names.NodeVolumeLimits, names.VolumeBinding, names.VolumeZone:
		return keys.Volume
	case names.DynamicResources:
		return keys.Claim
	case names.PodTopologySpread:
		return keys.Spread
	case names.InterPodAffinity:
		return keys.PodAffinity
	}
	return keys.NodeAffinity // NodeName, NodeAffinity, NodeDeclaredFeatures: the pod is not for such a node.
}

// insufficient finds the resource in a text of NodeResourcesFit: the first, if several are short.
func insufficient(text string) keys.Reason {
	first, _, _ := strings.Cut(text, ", ")
	switch first {
	case "Too many pods":
		return keys.InsufficientPods
	case "Insufficient cpu":
		return keys.InsufficientCPU
	case "Insufficient memory":
		return keys.InsufficientMemory
	case "Insufficient ephemeral-storage":
		return keys.InsufficientEphemeralStorage
	}
	return keys.InsufficientExtendedResource
}
