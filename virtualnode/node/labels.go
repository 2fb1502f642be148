package node

import (
	"encoding/json"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// lastAppliedMeta is the annotation in which virtual-kubelet notes the metadata that it wrote last.
const lastAppliedMeta = "virtual-kubelet.io/last-applied-object-meta"

// labels are those of the virtual node: what names it and what its lower nodes have in common. A label that somebody
// else gave the Node is left to them.
func (f *Facts) labels() map[string]string {
	all := f.shared()
	theirs := foreignLabels(f.Stands)
	maps.DeleteFunc(all, func(key, _ string) bool { return theirs[key] })
	maps.Copy(all, fixed(f.Name))
	return all
}

// fixed are the labels of every virtual node. The last two are for controllers that look at all Nodes: the cloud's service
// controller would offer it to load balancers (k8s.io/cloud-provider/controllers/service), and node-lifecycle would count one
// whose cluster is lost among the dead machines of a zone and stop evicting from these
// (k8s.io/kubernetes/pkg/controller/nodelifecycle).
func fixed(name string) map[string]string {
	return map[string]string{
		keys.Cluster: name, "kubernetes.io/role": "agent", "type": "virtual-kubelet",
		corev1.LabelNodeExcludeBalancers: "true", "node.kubernetes.io/exclude-disruption": "true",
	}
}

// lastLabels are the labels that were written last, before anything is known of the lower cluster; own are the fixed ones.
func (f *Facts) lastLabels(own map[string]string) map[string]string {
	theirs := foreignLabels(f.before)
	all := maps.Clone(f.before.Labels)
	maps.DeleteFunc(all, func(key, _ string) bool { return theirs[key] })
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return all
}

// shared are the labels to be seen that all usable nodes have in common, of all nodes where none is usable.
func (f *Facts) shared() map[string]string {
	if f.Snapshot == nil {
		return map[string]string{}
	}
	var common, ofAll map[string]string
	usable := false
	for _, node := range f.Snapshot.Nodes {
		ofAll = both(ofAll, node.Object.Labels)
		if node.Usable() {
			common, usable = both(common, node.Object.Labels), true
		}
	}
	if !usable {
		common = ofAll
	}
	shown := map[string]string{}
	for key, value := range common {
		if shows(key) && value != "" {
			shown[key] = value
		}
	}
	if zone := common[corev1.LabelTopologyZone]; zone != "" {
		shown[keys.Zone] = zone
	}
	return shown
}

// both returns what two sets of labels have in common; a nil one stands for every label.
func both(a, b map[string]string) map[string]string {
	if a == nil {
		a = map[string]string{}
		maps.Copy(a, b)
		return a
	}
	maps.DeleteFunc(a, func(key, value string) bool {
		other, ok := b[key]
		return !ok || other != value
	})
	return a
}

// shows reports whether a label of lower nodes may be seen on the virtual node. Never those of topologies: topology
// spread of ordinary pods counts every node that carries its key, tainted or not, and would stop. Never those by which
// Kubernetes, Karpenter or Tessera itself tell what to do with a node.
func shows(key string) bool {
	domain, _, prefixed := strings.Cut(key, "/")
	switch key {
	case corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelInstanceTypeStable, corev1.LabelWindowsBuild:
		return true
	}
	switch {
	case !prefixed:
		return true
	case domain == "feature.node.kubernetes.io": // Node Feature Discovery: what the processor can do.
		return true
	case domain == "kubernetes.io", strings.HasSuffix(domain, ".kubernetes.io"),
		domain == "karpenter.sh", strings.HasPrefix(domain, "karpenter."),
		strings.HasPrefix(domain, "topology."), strings.HasPrefix(domain, "failure-domain."),
		domain+"/" == keys.Domain, strings.HasSuffix(domain, "."+strings.TrimSuffix(keys.Domain, "/")):
		return false
	}
	return true
}

// foreignLabels are the keys of a virtual node's labels that its keeper did not write, or not with the value they have.
func foreignLabels(node *corev1.Node) map[string]bool {
	applied, ok := appliedMeta(node)
	if !ok {
		return nil
	}
	theirs := map[string]bool{}
	for key, value := range node.Labels {
		if ours, written := applied.Labels[key]; !written || ours != value {
			theirs[key] = true
		}
	}
	return theirs
}

// disown makes virtual-kubelet forget that it wrote the labels which are somebody else's by now: it would take them off
// when they are not wanted any more.
func disown(node *corev1.Node) {
	applied, ok := appliedMeta(node)
	theirs := foreignLabels(node)
	if !ok || len(theirs) == 0 {
		return
	}
	maps.DeleteFunc(applied.Labels, func(key, _ string) bool { return theirs[key] })
	if text, err := json.Marshal(applied); err == nil {
		node.Annotations[lastAppliedMeta] = string(text)
	}
}

func appliedMeta(node *corev1.Node) (applied metav1.ObjectMeta, ok bool) {
	if node == nil || node.Annotations[lastAppliedMeta] == "" {
		return applied, false // Just registered: all its labels are its keeper's.
	}
	err := json.Unmarshal([]byte(node.Annotations[lastAppliedMeta]), &applied)
	return applied, err == nil
}
