package extender

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// What is reduced once for several virtual nodes is what would be reduced for each.
func TestCompileAll(t *testing.T) {
	e := newTestExtender(t)
	for name, change := range map[string]func(*corev1.Node){
		"plain-1": func(*corev1.Node) {}, "plain-2": func(*corev1.Node) {},
		"prefix-1": func(n *corev1.Node) { n.Annotations = map[string]string{keys.Rules: `{"namespacePrefix":"x-"}`} },
		"prefix-2": func(n *corev1.Node) { n.Annotations = map[string]string{keys.Rules: `{"namespacePrefix":"x-"}`} },
		"east":     func(n *corev1.Node) { n.Labels[corev1.LabelTopologyRegion] = "east" },
		"refused": func(n *corev1.Node) {
			n.Annotations = map[string]string{keys.Refused: `[{"namespace":"ns","reason":"RefusedBelow"}]`}
		},
		"unreadable": func(n *corev1.Node) { n.Annotations = map[string]string{keys.Rules: `{`} },
	} {
		node := virtualNode(name)
		change(node)
		e.addNode(t, node)
	}
	selects := func(keys ...string) []corev1.NodeSelectorTerm {
		var terms []corev1.NodeSelectorTerm
		for _, key := range keys {
			terms = append(terms, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: key, Operator: corev1.NodeSelectorOpExists}, {Key: "disk", Operator: corev1.NodeSelectorOpExists},
			}})
		}
		return terms
	}
	spread := func(keys ...string) []corev1.TopologySpreadConstraint {
		return []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, MatchLabelKeys: keys,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}}
	}
	for name, change := range map[string]func(*corev1.Pod){
		"plain": func(*corev1.Pod) {},
		"affinity that the virtual node has a word in": func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: selects(corev1.LabelTopologyRegion, keys.Cluster),
			}}}
		},
		"spread":                       func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints = spread() },
		"spread by the virtual node":   func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints = spread(keys.VirtualNode) },
		"with more power than allowed": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"sealed, and nobody can read it": func(p *corev1.Pod) {
			p.Annotations = map[string]string{keys.Sealed: `{`}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod("p", "1")
			pod.Labels = map[string]string{"app": "web"}
			change(pod)
			nodes := e.upper.virtualNodes()
			for i, got := range e.compileAll(pod, nodes) {
				want, err := e.compile(pod, nodes[i])
				if (err != nil) != (got == nil) {
					t.Fatalf("%s: %v, alone %v", nodes[i].Name, got, err)
				}
				if err != nil {
					continue
				}
				if got.Refused != want.Refused {
					t.Errorf("%s: refused %q, alone %q", nodes[i].Name, got.Refused, want.Refused)
				}
				if want.Refused == keys.NotAllowed {
					continue // It is the upper pod, whatever the virtual node.
				}
				if diff := cmp.Diff(want.Whole(), got.Whole()); diff != "" {
					t.Errorf("%s: %s", nodes[i].Name, diff)
				}
			}
		})
	}
}
