package extender

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// A kubelet that gives its own Node what makes others virtual is not given a cluster's pods, nor Tessera's pods at all.
func TestOnlyWhatVirtualnodeWritesIsVirtual(t *testing.T) {
	t.Parallel()
	const virtual, pretends, really = "virtual", "pretends", "real"
	for name, c := range map[string]struct {
		change func(*corev1.Node)
		want   string
	}{
		"as virtualnode writes it":   {func(*corev1.Node) {}, virtual},
		"without the taint":          {func(n *corev1.Node) { n.Spec.Taints = nil }, pretends},
		"with another taint":         {func(n *corev1.Node) { n.Spec.Taints[0].Key = keys.UnusableTaint }, pretends},
		"with the label of another":  {func(n *corev1.Node) { n.Labels[keys.Cluster] = "a" }, pretends},
		"with the taint alone":       {func(n *corev1.Node) { n.Labels = nil }, pretends},
		"without label and taint":    {func(n *corev1.Node) { n.Labels, n.Spec.Taints = nil, nil }, really},
		"with an empty label, alone": {func(n *corev1.Node) { n.Labels[keys.Cluster], n.Spec.Taints = "", nil }, really},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestExtender(t)
			node := virtualNode("b")
			c.change(node)
			trimmed, err := trimUpperNode(node)
			if err != nil {
				t.Fatal(err)
			}
			e.addNode(t, trimmed.(*corev1.Node))
			result := e.filterNames(t, testPod("p", "6"), "b")
			got := pretends
			switch hold := e.pool.Hold("uid-p"); {
			case len(passed(&result)) == 1 && hold != nil:
				got = virtual
			case len(passed(&result)) == 1:
				got = really
			case result.FailedAndUnresolvableNodes["b"] != text(keys.NotSynced):
				t.Errorf("refused with %q", result.FailedAndUnresolvableNodes["b"])
			}
			if got != c.want {
				t.Errorf("Filter took it for %s, want %s", got, c.want)
			}
			r, err := e.takeRoom(time.Now(), testPod("q", "1"), "b")
			if (err != nil) != (c.want == pretends) || r.real != (c.want == really) {
				t.Errorf("bind: real %t, %v", r.real, err)
			}
		})
	}
}
