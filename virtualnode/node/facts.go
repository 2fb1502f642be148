package node

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	// LowerUID is the UID of the cluster that the Node stands for; "" before any is known.
	LowerUID types.UID
	// Holder is another process of this identity that writes to the lower cluster; "" if there is none.
	Holder string
	// Unheld says why this process could not get the lease without which it writes nothing there; "" if it has it, or Holder has.
	Unheld string
	// Double is the virtual node that stands for the same nodes already; "" if there is none.
	Double string
	// Snapshot is the newest picture of the lower nodes that take part (see snapshot.Select); nil before the first.
	Snapshot *snapshot.Snapshot
	// Devices are the extended resources that device classes give, and how many there can be of them at the most.
	Devices map[corev1.ResourceName]int64
	// Rules are shown to the extender.
	Rules translate.Rules
	// Refusals are shown to the extender: pods that the lower cluster does not take.
	Refusals translate.Refusals
	// Stands is the Node as the upper cluster shows it, for the labels that others gave it; nil if not known.
	Stands *corev1.Node
	// More are conditions beside Ready. Their times are filled in here.
	More []corev1.NodeCondition
	// Own is what the upper scheduler charges the virtual node for.
	Own snapshot.Resources
	// Version is the lower API server's; "" before it is known.
	Version string
	// Address and Port are where the kubelet API is reached; "" and 0 for nowhere.
	Address     string
	AddressType corev1.NodeAddressType
	Port        int32
	// before is the Node as it was last written; nil if there was none.
	before *corev1.Node
}

// node returns the virtual node as it is to be written. Pure: now is passed in.
//
// Neither kubernetes.io/hostname nor topology.kubernetes.io/* are among its labels: topology spread of ordinary pods
// counts every node that carries them, tainted or not, and would stop.
func (f *Facts) node(now time.Time) *corev1.Node {
	platform := f.shared()
	conditions := f.conditions(now)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: f.Name, Labels: f.labels()},
		Spec:       corev1.NodeSpec{Taints: taints(conditions)},
		Status: corev1.NodeStatus{
			Conditions:       conditions,
			DeclaredFeatures: f.features(),
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: f.Version, Architecture: platform[corev1.LabelArchStable], OperatingSystem: platform[corev1.LabelOSStable],
			},
		},
	}
	f.endpoint(node)
	if err := f.Rules.Write(node); err != nil {
		panic(err) // Strings and maps of strings.
	}
	if uid := cmp.Or(f.LowerUID, f.Health.UID); uid != "" {
		metav1.SetMetaDataAnnotation(&node.ObjectMeta, keys.LowerUID, string(uid))
	}
	if text := f.Refusals.Text(); text != "" {
		metav1.SetMetaDataAnnotation(&node.ObjectMeta, keys.Refused, text)
	}
	if f.Changed() {
		metav1.SetMetaDataAnnotation(&node.ObjectMeta, keys.FoundUID, string(f.Health.UID))
	}
	if f.Holder != "" {
		metav1.SetMetaDataAnnotation(&node.ObjectMeta, keys.FoundHolder, f.Holder)
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

// endpoint says where the kubelet API is. Where it is nowhere there is no address, so that kubectl logs says so instead of waiting for
// somebody who does not listen; the port stays, as it is to be the same afterwards.
func (f *Facts) endpoint(node *corev1.Node) {
	if f.before != nil {
		node.Status.DaemonEndpoints = f.before.Status.DaemonEndpoints
	}
	if f.Port == 0 {
		return
	}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = f.Port
	if f.Address != "" {
		node.Status.Addresses = []corev1.NodeAddress{{Type: f.AddressType, Address: f.Address}}
	}
}

// taints are those of a virtual node with these conditions.
func taints(conditions []corev1.NodeCondition) []corev1.Taint {
	all := []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}
	unusable := slices.ContainsFunc(conditions, func(c corev1.NodeCondition) bool {
		return c.Type == keys.Usable && c.Status != corev1.ConditionTrue
	})
	if unusable {
		all = append(all, corev1.Taint{Key: keys.UnusableTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	return all
}

// pressures are conditions that a kubelet posts and a virtual node never has. Whoever finds one missing after an outage writes
// Unknown in its place, for ever.
var pressures = []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// conditions are Ready and those beside it. The time of a transition moves with the status alone, or every write would
// be a change.
func (f *Facts) conditions(now time.Time) []corev1.NodeCondition {
	all := append([]corev1.NodeCondition{f.Ready(now), f.Usable(now)}, f.More...)
	for _, kind := range pressures {
		all = append(all, corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: "VirtualNode",
			Message: "The kubelets of the lower nodes look after it"})
	}
	all = append(all, f.network())
	for i := range all {
		if !all[i].LastTransitionTime.IsZero() {
			continue // It is another's.
		}
		all[i].LastTransitionTime = metav1.NewTime(now)
		if before := f.conditionBefore(all[i].Type); before != nil && before.Status == all[i].Status {
			all[i].LastTransitionTime = before.LastTransitionTime
		}
	}
	return all
}

// network is the condition NetworkUnavailable: there is nothing to wait for. A cloud's route controller that says otherwise is
// left alone, as its word is what the Node stands for then.
func (f *Facts) network() corev1.NodeCondition {
	for _, node := range []*corev1.Node{f.Stands, f.before} {
		if node == nil {
			continue
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeNetworkUnavailable {
				c.LastHeartbeatTime = metav1.Time{}
				return c
			}
		}
	}
	return corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "VirtualNode",
		Message: "The lower cluster has its own network"}
}

// worse reports whether the Node would be less than it was when it was last written.
func (f *Facts) worse(now time.Time) bool {
	for _, c := range []corev1.NodeCondition{f.Ready(now), f.Usable(now)} {
		stood := f.conditionBefore(c.Type)
		if stood != nil && stood.Status == corev1.ConditionTrue && c.Status != corev1.ConditionTrue {
			return true
		}
	}
	return false
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
