package node

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// unreachableAfter is how long a lower cluster may be silent before its node is NotReady: two probes that fail.
const unreachableAfter = 8 * time.Second

// Reasons of the condition Ready of a virtual node.
const (
	reasonReady       = "LowerReady"
	reasonUnreachable = "LowerUnreachable"
	reasonNotSynced   = "NotSynced"
	reasonNoNodes     = "NoUsableNodes"
)

// Facts are all that a virtual node is made from.
type Facts struct {
	Name string
	// Broken says why the kubeconfig cannot be used; "" if it can.
	Broken string
	Health lower.Health
	// Snapshot is the newest picture of the lower cluster; nil before the first.
	Snapshot *snapshot.Snapshot
	// Rules are shown to the extender.
	Rules translate.Rules
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
	arch, os := f.platform()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: f.Name, Labels: f.labels(arch, os)},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{virtualTaint}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{f.Ready(now)},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: f.Version, Architecture: arch, OperatingSystem: os},
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
		node.Status.Capacity = f.Snapshot.Capacity().List()
		node.Status.Allocatable = f.Snapshot.Advertised(f.Own).List()
	case f.before != nil: // After a start: what was said last is nearer to the truth than nothing.
		node.Status.Capacity, node.Status.Allocatable = f.before.Status.Capacity, f.before.Status.Allocatable
		node.Status.NodeInfo = f.before.Status.NodeInfo
		maps.Copy(node.Labels, only(f.before.Labels, corev1.LabelArchStable, corev1.LabelOSStable))
	}
	return node
}

var virtualTaint = corev1.Taint{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}

func (f *Facts) labels(arch, os string) map[string]string {
	labels := map[string]string{
		keys.Cluster:         f.Name,
		"kubernetes.io/role": "agent",
		"type":               "virtual-kubelet",
	}
	for key, value := range map[string]string{corev1.LabelArchStable: arch, corev1.LabelOSStable: os} {
		if value != "" {
			labels[key] = value
		}
	}
	return labels
}

func only(labels map[string]string, names ...string) map[string]string {
	some := map[string]string{}
	for _, name := range names {
		if value, ok := labels[name]; ok {
			some[name] = value
		}
	}
	return some
}

// platform is the architecture and the operating system that all lower nodes have in common; "" where they differ
// or do not say.
func (f *Facts) platform() (arch, os string) {
	if f.Snapshot == nil {
		return "", ""
	}
	return f.shared(corev1.LabelArchStable), f.shared(corev1.LabelOSStable)
}

func (f *Facts) shared(label string) string {
	value := ""
	for i, node := range f.Snapshot.Nodes {
		if i > 0 && node.Object.Labels[label] != value {
			return ""
		}
		value = node.Object.Labels[label]
	}
	return value
}

// Reachable reports whether the lower cluster has answered lately.
func Reachable(health lower.Health, now time.Time) bool {
	return !health.Contact.IsZero() && now.Sub(health.Contact) <= unreachableAfter
}

// Ready is the condition Ready. Its texts name no changing numbers, so that it changes only when the matter does.
func (f *Facts) Ready(now time.Time) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now)}
	switch {
	case f.Broken != "":
		c.Reason, c.Message = reasonUnreachable, "The kubeconfig of this cluster cannot be used: "+f.Broken
	case !Reachable(f.Health, now) && (f.Health.Err != nil || !f.Health.Contact.IsZero()):
		c.Reason = reasonUnreachable
		c.Message = "The API server of the lower cluster does not answer; pods keep running there, nothing new can be created"
		if f.Health.Err != nil {
			c.Message += ": " + f.Health.Err.Error()
		}
	case !f.Health.Synced || f.Snapshot == nil:
		c.Reason, c.Message = reasonNotSynced, "Nodes and pods of the lower cluster are being listed"
	case !f.usable():
		c.Reason = reasonNoNodes
		c.Message = fmt.Sprintf("None of the %d nodes of the lower cluster is ready and schedulable", len(f.Snapshot.Nodes))
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonReady, "The lower cluster answers and has usable nodes"
	}
	if before := f.readyBefore(); before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return c
}

func (f *Facts) usable() bool {
	for _, node := range f.Snapshot.Nodes {
		if node.Usable() {
			return true
		}
	}
	return false
}

func (f *Facts) readyBefore() *corev1.NodeCondition {
	if f.before == nil {
		return nil
	}
	for i, c := range f.before.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return &f.before.Status.Conditions[i]
		}
	}
	return nil
}

// Charged sums up what the upper scheduler charges a node for: the requests of the unfinished pods bound to it. The
// resource that marks Tessera's pods is taken out: no node may list it.
func Charged(pods []*corev1.Pod) snapshot.Resources {
	var sum snapshot.Resources
	for _, pod := range pods {
		if !snapshot.Finished(pod) {
			sum = sum.Plus(snapshot.Requests(pod))
		}
	}
	if _, ok := sum.Scalars[keys.PodResource]; ok {
		sum.Scalars = maps.Clone(sum.Scalars)
		delete(sum.Scalars, keys.PodResource)
	}
	return sum
}
