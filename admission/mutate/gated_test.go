package mutate

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// TestGatedPodsAreSealedAgain has somebody narrow a pod behind its gate, under every policy: below that holds beside what the user wrote,
// real nodes see it, virtual ones are not held to it, and the API server takes the result.
func TestGatedPodsAreSealedAgain(t *testing.T) {
	gated := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}} }
	cases := map[string]struct {
		first  func(*corev1.Pod)
		change func(*corev1.Pod)
		below  func(*corev1.Pod) // as LowerPod makes it of a pod that says all this
	}{
		"a selector":                      {gated, selecting("pool", "gold"), selecting("pool", "gold")},
		"a selector beside another":       {selecting("disk", "ssd"), selecting("pool", "gold"), both(selecting("disk", "ssd"), selecting("pool", "gold"))},
		"a selector beside affinity":      {requiring(all(ssd)), selecting("pool", "gold"), both(requiring(all(ssd)), selecting("pool", "gold"))},
		"a cluster":                       {gated, selecting(keys.Cluster, "a"), gated},
		"the first gate goes":             {gated, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil }, gated},
		"an expression in each term":      {requiring(all(ssd)), addingToTerms(arm), requiring(all(ssd, arm))},
		"a label and a forged annotation": {selecting("disk", "ssd"), both(annotated(keys.Sealed, "{}"), annotated(keys.Policy, "x")), selecting("disk", "ssd")},
	}
	for name, test := range cases {
		for _, policy := range policies {
			t.Run(name+", "+policy, func(t *testing.T) {
				old := mustMark(t, pod(annotated(keys.Policy, policy), gated, test.first))
				old.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}}
				changed := withSpec(old, test.change)
				got, err := Reseal(old, changed)
				if err != nil {
					t.Fatal(err)
				}
				want := below(t, pod(test.below))
				if diff := cmp.Diff(want, below(t, got)); diff != "" {
					t.Errorf("below:\n%s", diff)
				}
				if got.Annotations[keys.Policy] != policy {
					t.Errorf("policy %s", got.Annotations[keys.Policy])
				}
				taken(t, old, got)
				for _, node := range []map[string]string{{"pool": "gold", "disk": "ssd", "arch": "arm64"}, {"pool": "gold"}, {"disk": "ssd"}, {}} {
					real := &corev1.Node{}
					real.Labels = node
					user := pod(test.first)
					test.change(user)
					if want := policy != keys.PolicyOnly && fits(t, user, real); fits(t, got, real) != want {
						t.Errorf("a real node with %v: %t", node, !want)
					}
				}
				virtual := &corev1.Node{}
				virtual.Labels = map[string]string{keys.Cluster: "a"}
				if !fits(t, got, virtual) {
					t.Errorf("the virtual node is held to what lower nodes have: %+v", got.Spec)
				}
				if again, err := Reseal(old, got); err != nil || !cmp.Equal(below(t, got), below(t, again)) {
					t.Errorf("again: %v", err)
				}
			})
		}
	}
}

// TestMergedLabelKeys: the API server merges matchLabelKeys into the selectors of what stays above after admission; an update leaves it so.
func TestMergedLabelKeys(t *testing.T) {
	for _, policy := range []string{keys.PolicyPrefer, keys.PolicyOverflow} {
		old := mustMark(t, pod(annotated(keys.Policy, policy), spreading(hostname, corev1.ScheduleAnyway), apart(hostname)))
		old.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}}
		for _, selector := range []*metav1.LabelSelector{
			old.Spec.TopologySpreadConstraints[0].LabelSelector, old.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector,
		} {
			selector.MatchExpressions = append(selector.MatchExpressions, expression("pod-template-hash", "In", "x"))
		}
		open := withSpec(old, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil })
		got, err := Reseal(old, open)
		if err != nil {
			t.Fatal(err)
		}
		taken(t, old, got)
	}
}

func expression(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
}

func both(first, second func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) { first(p); second(p) }
}

// addingToTerms adds to each term that is there, as the API server allows for gated pods, or makes one.
func addingToTerms(e requirement) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		required := seal.Of(p).Required
		if required == nil {
			requiring(all(e))(p)
			return
		}
		for i := range required.NodeSelectorTerms {
			required.NodeSelectorTerms[i].MatchExpressions = slices.Concat(required.NodeSelectorTerms[i].MatchExpressions, []requirement{e})
		}
	}
}

// taken fails if the API server would not take the update.
func taken(t *testing.T, old, pod *corev1.Pod) {
	t.Helper()
	var specs [2]*core.Pod
	for i, p := range []*corev1.Pod{old, pod} {
		p = p.DeepCopy()
		p.ResourceVersion = "1"
		specs[i] = &core.Pod{}
		if err := corev1conversion.Convert_v1_Pod_To_core_Pod(p, specs[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	options := podutil.GetValidationOptionsFromPodSpecAndMeta(&specs[1].Spec, &specs[0].Spec, &specs[1].ObjectMeta, &specs[0].ObjectMeta)
	for _, err := range validation.ValidatePodUpdate(specs[1], specs[0], options) {
		if err.Type != field.ErrorTypeRequired { // What the defaults of the API server fill in.
			t.Errorf("the API server says: %v", err)
		}
	}
}

func TestUngatedPodsAreLeftAlone(t *testing.T) {
	old := mustMark(t, pod(selecting("disk", "ssd")))
	changed := withSpec(old, annotated("note", "x"))
	if got, err := Reseal(old, changed); got != changed || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestCopies: a copy of one of Tessera's pods keeps its constraints where it is marked again, and gets them back elsewhere.
func TestCopies(t *testing.T) {
	cases := map[string]*corev1.Pod{
		"selector":    pod(selecting("disk", "ssd"), requiring(all(arm))),
		"spread":      pod(spreading(hostname, corev1.ScheduleAnyway), apart(hostname)),
		"says little": pod(),
		"toleration":  pod(tolerating(corev1.Toleration{Key: "gpu", Operator: "Exists"})),
	}
	for name, user := range cases {
		for _, policy := range policies {
			t.Run(name+", "+policy, func(t *testing.T) {
				marked, _, err := Mark(withSpec(user, annotated(keys.Policy, policy)), "shop", Settings{Architecture: "amd64", Standard: standard})
				if err != nil {
					t.Fatal(err)
				}
				annotated(keys.LowerNode, "n1")(marked)
				edited := withSpec(marked, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "debug" })
				open, err := Restore(edited, standard)
				if err != nil {
					t.Fatal(err)
				}
				want := withSpec(user, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "debug" })
				seconds := int64(standard.Seconds())
				if policy == keys.PolicyOnly { // What the API server would have given it.
					tolerating(corev1.Toleration{Key: unreachable.Key, Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &seconds})(want)
				}
				if diff := cmp.Diff(want, open); diff != "" {
					t.Errorf("elsewhere:\n%s", diff)
				}
			})
		}
	}
}
