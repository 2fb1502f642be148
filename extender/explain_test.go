package extender

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// TestEveryPodIsExplained: whatever the extender has heard of a pod, people are told where it stands and what to do.
func TestEveryPodIsExplained(t *testing.T) {
	refused := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available: 2 node(s) didn't match."}
	unmarked := func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }
	cases := map[string]struct {
		change    func(*corev1.Pod)
		enabled   string // of the namespace
		situation wire.Situation
		why       []string
	}{
		"not asked yet": {func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }, "true", wire.NotAsked, []string{"No scheduler has come", `"mine"`}},
		"a selector of lower nodes": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{refused}
			p.Spec.NodeSelector = map[string]string{"pool": "gold"}
		}, "true", wire.NotAsked, []string{"own filters", refused.Message, "pool=gold", "sealed when a pod is created"}},
		"a cluster that does not exist": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{refused}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: keys.Cluster, Operator: "In", Values: []string{"x"}}}}},
			}}}
		}, "true", wire.NotAsked, []string{"No virtual node meets its required node affinity"}},
		"gated": {func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}} }, "true",
			wire.Gated, []string{"example.com/queue"}},
		"not opted in":             {unmarked, "", wire.NotOurs, []string{"has not opted in", keys.Enabled + "=true"}},
		"older than the opting in": {unmarked, "true", wire.NotOurs, []string{"Create it anew"}},
		"opted out": {func(p *corev1.Pod) {
			unmarked(p)
			p.Labels = map[string]string{keys.Enabled: "false"}
		}, "true", wire.NotOurs, []string{"its label"}},
		"left alone by admission": {func(p *corev1.Pod) {
			unmarked(p)
			p.Annotations = map[string]string{keys.Decision: `{"marked":false,"why":"because"}`}
		}, "true", wire.NotOurs, []string{"because"}},
		"of a DaemonSet": {func(p *corev1.Pod) {
			unmarked(p)
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: new(true)}}
		}, "true", wire.NotOurs, []string{"DaemonSets"}},
		"on a real node":    {func(p *corev1.Pod) { p.Spec.NodeName = "real" }, "true", wire.Bound, []string{"a real node"}},
		"on a virtual node": {func(p *corev1.Pod) { p.Spec.NodeName = "a" }, "true", wire.Bound, []string{"virtual node a", "no node there yet"}},
		"ended":             {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "true", wire.Finished, []string{"Succeeded"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			pod := testPod("p", "1")
			test.change(pod)
			space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{keys.Enabled: test.enabled}}}
			if _, err := e.client.CoreV1().Namespaces().Create(t.Context(), space, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := e.client.CoreV1().Pods("ns").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			var got wire.Explanation
			if status := e.call(t, http.MethodGet, "/debug/pods/ns/p", "", &got); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			if got.Situation != test.situation || got.When != nil || got.Clusters == nil {
				t.Errorf("%+v, want %s", got, test.situation)
			}
			for _, part := range test.why {
				if !strings.Contains(got.Why, part) {
					t.Errorf("%q lacks %q", got.Why, part)
				}
			}
		})
	}
}
