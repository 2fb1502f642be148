package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Facts are all that a virtual node is made from.
type Facts struct {
	Name string
	// Broken says why the kubeconfig cannot be used; "" if it can.
	Broken string
	Health lower.Health
	// Snapshot is the newest picture of the lower nodes that take part (see snapshot.Select); nil before the first.
	Snapshot *snapshot.Snapshot
	// Devices are the extended resources that device classes give, and how many there can be of them at the most.
	Devices map[corev1.ResourceName]int64
	// Rules are shown to the extender.
	Rules translate.Rules
	// Stands is the Node as the upper cluster shows it, for the labels that others gave it; nil if not known.
	Stands *corev1.Node
	// More are conditions beside Ready. Their times are filled in here.
	More []corev1.NodeCondition
	// Own is what the upper scheduler charges the virtual node for.
	Own snapshot.Resources
	// Version is the lower API server's; "" before it is known.
	Version string
	// before is the Node as it was last written; nil if there was none.
	before *corev1.Node
}

// node returns the virtual node as it is to be written. Pure: now is passed in.
//
// Neither kubernetes.io/hostname nor topology.kubernetes.io/* are among its labels: topology spread of ordinary pods
// counts every node that carries them, tainted or not, and would stop. There are no daemonEndpoints yet, so kubectl
// logs says so instead of waiting for a port that nobody listens on.
func (f *Facts) node(now time.Time) *corev1.Node {
	platform := f.shared()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: f.Name, Labels: f.labels()},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{virtualTaint}},
		Status: corev1.NodeStatus{
			Conditions:       f.conditions(now),
			DeclaredFeatures: f.features(),
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: f.Version, Architecture: platform[corev1.LabelArchStable], OperatingSystem: platform[corev1.LabelOSStable],
			},
		},
	}
	if err := f.Rules.Write(node); err != nil {
		panic(err) // Strings and maps of strings.
	}
	if f.Version == "" && f.before != nil {
		node.Status.NodeInfo.KubeletVersion = f.before.Status.NodeInfo.KubeletVersion
	}
	switch {
	case f.Snapshot != nil:
		node.Status.Capacity = f.capacity().List()
		node.Status.Allocatable = f.advertised().List()
	case f.before != nil: // After a start: what was said last is nearer to the truth than nothing.
		node.Status.Capacity, node.Status.Allocatable = f.before.Status.Capacity, f.before.Status.Allocatable
		node.Status.NodeInfo, node.Status.DeclaredFeatures = f.before.Status.NodeInfo, f.before.Status.DeclaredFeatures
		node.Labels = f.lastLabels(node.Labels)
	}
	return node
}

var virtualTaint = corev1.Taint{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}

// conditions are Ready and those beside it. The time of a transition moves with the status alone, or every write would
// be a change.
func (f *Facts) conditions(now time.Time) []corev1.NodeCondition {
	all := append([]corev1.NodeCondition{f.Ready(now)}, f.More...)
	for i := range all {
		all[i].LastTransitionTime = metav1.NewTime(now)
		if before := f.conditionBefore(all[i].Type); before != nil && before.Status == all[i].Status {
			all[i].LastTransitionTime = before.LastTransitionTime
		}
	}
	return all
}

func (f *Facts) conditionBefore(kind corev1.NodeConditionType) *corev1.NodeCondition {
	if f.before == nil {
		return nil
	}
	for i, c := range f.before.Status.Conditions {
		if c.Type == kind {
			return &f.before.Status.Conditions[i]
		}
	}
	return nil
}
