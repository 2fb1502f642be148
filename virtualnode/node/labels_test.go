package node

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// labelled gives a lower node more labels.
func labelled(pairs ...string) func(*corev1.Node) {
	return func(node *corev1.Node) {
		for i := 0; i < len(pairs); i += 2 {
			node.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func nodes(list ...*corev1.Node) *snapshot.Snapshot {
	var all []*snapshot.Node
	for _, node := range list {
		all = append(all, snapshot.NewNode(node, nil))
	}
	return picture(all...)
}

func TestNodeLabels(t *testing.T) {
	t.Parallel()
	base := map[string]string{
		keys.Cluster: "v", "kubernetes.io/role": "agent", "type": "virtual-kubelet",
		"node.kubernetes.io/exclude-from-external-load-balancers": "true", "node.kubernetes.io/exclude-disruption": "true",
	}
	plain := map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", keys.Zone: "z"}
	plus := func(sets ...map[string]string) map[string]string {
		all := maps.Clone(base)
		for _, set := range sets {
			maps.Copy(all, set)
		}
		return all
	}
	cases := map[string]struct {
		nodes  *snapshot.Snapshot
		stands *corev1.Node
		want   map[string]string
	}{
		"nothing known": {nil, nil, base},
		"uniform":       {nodes(lowerNode("a"), lowerNode("b")), nil, plus(plain)},
		"two architectures": {
			nodes(lowerNode("a"), lowerNode("b", labelled(corev1.LabelArchStable, "arm64"))), nil,
			plus(map[string]string{corev1.LabelOSStable: "linux", keys.Zone: "z"}),
		},
		"an unusable node does not count": {
			nodes(lowerNode("a"), lowerNode("b", cordoned, labelled(corev1.LabelArchStable, "arm64", corev1.LabelTopologyZone, "y"))), nil,
			plus(plain),
		},
		"none is usable": {nodes(lowerNode("a", cordoned)), nil, plus(plain)},
		"two zones": {
			nodes(lowerNode("a"), lowerNode("b", labelled(corev1.LabelTopologyZone, "y"))), nil,
			plus(map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}),
		},
		"what people and vendors write": {
			nodes(
				lowerNode("a", labelled("gpu", "h100", "team", "a", "example.com/pool", "x", corev1.LabelInstanceTypeStable, "m5",
					"feature.node.kubernetes.io/cpu-cpuid.AVX2", "true")),
				lowerNode("b", labelled("gpu", "h100", "team", "b", "example.com/pool", "x", corev1.LabelInstanceTypeStable, "m5",
					"feature.node.kubernetes.io/cpu-cpuid.AVX2", "true"))), nil,
			plus(plain, map[string]string{"gpu": "h100", "example.com/pool": "x", corev1.LabelInstanceTypeStable: "m5",
				"feature.node.kubernetes.io/cpu-cpuid.AVX2": "true"}),
		},
		"what is not for us": {
			nodes(lowerNode("a", labelled("topology.ebs.csi.aws.com/zone", "z", "failure-domain.beta.kubernetes.io/zone", "z",
				"node-role.kubernetes.io/control-plane", "", "node-role.kubernetes.io/worker", "true", "node.kubernetes.io/exclude-disruption", "true",
				"node-restriction.kubernetes.io/tier", "x", "karpenter.sh/nodepool", "p", "tessera.sh/cluster", "other", "tessera.sh/zone", "other",
				"kubernetes.io/role", "master", "type", "metal"))), nil,
			plus(plain),
		},
		"a label that somebody gave the Node": {
			nodes(lowerNode("a", labelled("gpu", "h100", "disk", "ssd"))),
			standing(map[string]string{"gpu": "h100", "disk": "hdd"}, map[string]string{"gpu": "h100", "disk": "ssd"}),
			plus(plain, map[string]string{"gpu": "h100"}),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := Facts{Name: "v", Health: healthy(), Snapshot: c.nodes, Stands: c.stands}
			got := f.node(now)
			if diff := cmp.Diff(c.want, got.Labels); diff != "" {
				t.Error(diff)
			}
			for label := range got.Labels {
				if label == corev1.LabelHostname || strings.HasPrefix(label, "topology.") {
					t.Errorf("label %s makes the topology spread of ordinary pods count the virtual node", label)
				}
			}
			if arch := got.Status.NodeInfo.Architecture; arch != c.want[corev1.LabelArchStable] {
				t.Errorf("architecture %q, label %q", arch, c.want[corev1.LabelArchStable])
			}
			if got.Spec.Taints[0].Key != keys.VirtualTaint || got.Spec.Taints[0].Effect != corev1.TaintEffectNoSchedule {
				t.Errorf("taints %v", got.Spec.Taints)
			}
		})
	}
}

// standing is a Node as the upper cluster shows it, and what its keeper wrote last.
func standing(labels, applied map[string]string) *corev1.Node {
	text, err := json.Marshal(metav1.ObjectMeta{Name: "v", Labels: applied})
	if err != nil {
		panic(err)
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "v", Labels: labels, Annotations: map[string]string{lastAppliedMeta: string(text)}}}
}

// virtual-kubelet takes labels off that it wrote and that are not wanted any more: not those with another's value.
func TestDisown(t *testing.T) {
	t.Parallel()
	node := standing(map[string]string{"gpu": "h100", "disk": "hdd", "own": "x"}, map[string]string{"gpu": "h100", "disk": "ssd", "gone": "y"})
	disown(node)
	applied, ok := appliedMeta(node)
	if diff := cmp.Diff(map[string]string{"gpu": "h100", "gone": "y"}, applied.Labels); !ok || diff != "" {
		t.Errorf("read %v: %s", ok, diff)
	}
	fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "v", Labels: map[string]string{"gpu": "h100"}}}
	if theirs := foreignLabels(fresh); len(theirs) != 0 {
		t.Errorf("of a Node just registered %v are taken for another's", theirs)
	}
}
