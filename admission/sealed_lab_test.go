package admission_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// TestGated has a queue give a pod a node selector and open its gate, in one call and in two: the API server takes what admission makes of
// it, and nothing of it is asked of virtual nodes.
func TestGated(t *testing.T) {
	client := clientOf(t, shared.Get(t).Upper())
	pods := client.CoreV1().Pods(namespace(t, client, true))
	selects := `{"spec":{"nodeSelector":{"pool":"gold"}}}`
	requires := `{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
		{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"Exists"},{"key":"pool","operator":"In","values":["gold"]}]}]}}}}}`
	opens := `{"spec":{"schedulingGates":null}}`
	for name, patches := range map[string][]string{
		"a selector":             {selects, opens},
		"in one call":            {strings.Replace(selects, `"nodeSelector"`, `"schedulingGates":null,"nodeSelector"`, 1)},
		"affinity":               {requires, opens},
		"a forged seal as well":  {`{"metadata":{"annotations":{"tessera.sh/sealed":"{}","tessera.sh/policy":"prefer"}},` + selects[1:], opens},
		"without any annotation": {`{"metadata":{"annotations":null},` + selects[1:], opens},
	} {
		t.Run(name, func(t *testing.T) {
			gated := pod(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}} })
			gated.Name = strings.ReplaceAll(name, " ", "-")
			p, err := pods.Create(t.Context(), gated, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, patch := range patches {
				if p, err = pods.Patch(t.Context(), p.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			lower, err := translate.LowerPod(p, translate.Target{VirtualNode: "a", Labels: map[string]string{keys.Cluster: "a"}})
			if err != nil {
				t.Fatal(err)
			}
			asked, _ := json.Marshal(seal.Of(lower))
			if p.Spec.NodeSelector != nil || !strings.Contains(string(asked), "gold") || p.Annotations[keys.Policy] != keys.PolicyOnly {
				t.Errorf("above %v, %v; below %s", p.Spec.NodeSelector, p.Annotations, asked)
			}
			if diff := cmp.Diff([]corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{seal.Virtual}}},
				seal.Of(p).Required.NodeSelectorTerms); diff != "" {
				t.Errorf("above:\n%s", diff)
			}
		})
	}
}

// TestCopied copies a pod as kubectl get -o yaml | kubectl create would: it keeps its constraints in a namespace that takes part, and has
// them back in one that does not.
func TestCopied(t *testing.T) {
	client := clientOf(t, shared.Get(t).Upper())
	in, out := namespace(t, client, true), namespace(t, client, false)
	spread := corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}
	first, err := client.CoreV1().Pods(in).Create(t.Context(), pod(func(p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{spread}
	}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for to, marked := range map[string]bool{in: true, out: false} {
		twin := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "copy-", Labels: first.Labels, Annotations: first.Annotations}, Spec: first.Spec}
		got, err := client.CoreV1().Pods(to).Create(t.Context(), twin, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := seal.Unseal(got)
		if err != nil {
			t.Fatal(err)
		}
		want := seal.Constraints{NodeSelector: map[string]string{"disk": "ssd"}, Spread: []corev1.TopologySpreadConstraint{spread}}
		if diff := cmp.Diff(want, whole); diff != "" {
			t.Errorf("constraints:\n%s", diff)
		}
		if translate.Marked(got) != marked || seal.Sealed(got) != marked || (len(got.Spec.TopologySpreadConstraints) == 0) != marked {
			t.Errorf("in a namespace that takes part: %t: %+v", marked, got)
		}
	}
}
