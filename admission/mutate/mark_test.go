package mutate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

type (
	term        = corev1.NodeSelectorTerm
	requirement = corev1.NodeSelectorRequirement
)

// pod returns a pod with one container, changed by the functions.
func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: map[string]string{}, Labels: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web"}}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func selecting(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Spec.NodeSelector == nil {
			p.Spec.NodeSelector = map[string]string{}
		}
		p.Spec.NodeSelector[key] = value
	}
}

func requiring(terms ...term) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: slices.Clone(terms)},
		}}
	}
}

func tolerating(tolerations ...corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, tolerations...) }
}

func expr(key string, operator corev1.NodeSelectorOperator, values ...string) requirement {
	return requirement{Key: key, Operator: operator, Values: values}
}

func all(requirements ...requirement) term { return term{MatchExpressions: requirements} }

var (
	everything = corev1.Toleration{Operator: corev1.TolerationOpExists}
	ssd        = expr("disk", corev1.NodeSelectorOpIn, "ssd")
	arm        = expr("arch", corev1.NodeSelectorOpIn, "arm64")
	virtual    = seal.Virtual
)

// What a marked pod tolerates beside virtual nodes.
var (
	unreachable = corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
)

// standard is what the API server has pods tolerate that say nothing.
const standard = 5 * time.Minute

func mustMark(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	marked, _, err := Mark(p, p.Namespace, Settings{Standard: standard})
	if err != nil {
		t.Fatal(err)
	}
	return marked
}

func TestMark(t *testing.T) {
	before := pod(selecting("disk", "ssd"))
	untouched := before.DeepCopy()
	got := mustMark(t, before)
	if diff := cmp.Diff(untouched, before); diff != "" {
		t.Errorf("the argument was changed:\n%s", diff)
	}
	zero := corev1.ResourceList{keys.PodResource: resource.MustParse("0")}
	want := pod(requiring(all(virtual)), tolerating(toleration, unreachable, noNetwork))
	want.Annotations[keys.Tolerations] = unreachable.Key + "," + noNetwork.Key
	want.Annotations[keys.Policy], want.Annotations[keys.Decision] = keys.PolicyOnly, `{"marked":true,"from":{"policy":"config"}}`
	want.Annotations[keys.Sealed] = `{"nodeSelector":{"disk":"ssd"}}`
	want.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: zero, Limits: zero}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marked pod:\n%s", diff)
	}
	if diff := cmp.Diff(got, mustMark(t, got)); diff != "" {
		t.Errorf("marking twice:\n%s", diff)
	}
}

func TestMarkLeavesAlone(t *testing.T) {
	yes := true
	cases := map[string]*corev1.Pod{
		"bound":         pod(func(p *corev1.Pod) { p.Spec.NodeName = "n1" }),
		"opted out":     pod(func(p *corev1.Pod) { p.Labels[keys.Enabled] = "false" }, annotated(keys.Policy, "overflow")),
		"no containers": pod(func(p *corev1.Pod) { p.Spec.Containers = nil }),
		"of a DaemonSet": pod(func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "logs", Controller: &yes}}
		}),
	}
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			if got := mustMark(t, p); got != p {
				t.Errorf("changed:\n%s", cmp.Diff(p, got))
			}
		})
	}
}

func TestMarkKeepsTolerations(t *testing.T) {
	equal := corev1.Toleration{Key: keys.VirtualTaint, Operator: corev1.TolerationOpEqual, Value: "a"}
	cases := map[string]struct{ have, want []corev1.Toleration }{
		"none":                   {nil, []corev1.Toleration{toleration}},
		"everything":             {[]corev1.Toleration{everything}, []corev1.Toleration{everything}},
		"one value":              {[]corev1.Toleration{equal}, []corev1.Toleration{equal, toleration}},
		"of another effect":      {[]corev1.Toleration{{Operator: "Exists", Effect: "NoExecute"}}, []corev1.Toleration{{Operator: "Exists", Effect: "NoExecute"}, toleration}},
		"the same, set by hand":  {[]corev1.Toleration{toleration}, []corev1.Toleration{toleration}},
		"of a taint of the user": {[]corev1.Toleration{{Key: "gpu", Operator: "Exists"}}, []corev1.Toleration{{Key: "gpu", Operator: "Exists"}, toleration}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := mustMark(t, pod(tolerating(test.have...)))
			have := slices.DeleteFunc(got.Spec.Tolerations, func(t corev1.Toleration) bool { return t == unreachable || t == noNetwork })
			if diff := cmp.Diff(test.want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A virtual node is unreachable when its virtualnode is away, which says nothing of the pods: they outlast it, unless their owner
// said for how long.
func TestMarkEndures(t *testing.T) {
	seconds := func(n int64) corev1.Toleration {
		t := unreachable
		t.TolerationSeconds = &n
		return t
	}
	cases := map[string]struct {
		have, want []corev1.Toleration
		note       string
	}{
		"by default":          {[]corev1.Toleration{seconds(300)}, []corev1.Toleration{unreachable, toleration, noNetwork}, "unreachable,network-unavailable"},
		"no default":          {nil, []corev1.Toleration{toleration, unreachable, noNetwork}, "unreachable,network-unavailable"},
		"a time of its own":   {[]corev1.Toleration{seconds(30)}, []corev1.Toleration{seconds(30), toleration, noNetwork}, "network-unavailable"},
		"for ever, its own":   {[]corev1.Toleration{unreachable}, []corev1.Toleration{unreachable, toleration, noNetwork}, "network-unavailable"},
		"tolerates all of it": {[]corev1.Toleration{everything}, []corev1.Toleration{everything}, ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got := mustMark(t, pod(tolerating(test.have...)))
			if diff := cmp.Diff(test.want, got.Spec.Tolerations); diff != "" {
				t.Error(diff)
			}
			if note := strings.ReplaceAll(got.Annotations[keys.Tolerations], "node.kubernetes.io/", ""); note != test.note {
				t.Errorf("note %q, want %q", note, test.note)
			}
			if diff := cmp.Diff(got, mustMark(t, got)); diff != "" {
				t.Errorf("marked twice: %s", diff)
			}
		})
	}
}

func TestMarkDenies(t *testing.T) {
	one := corev1.ResourceList{keys.PodResource: resource.MustParse("1")}
	cases := map[string]struct {
		pod  *corev1.Pod
		want []string
	}{
		"order":        {pod(annotated(keys.ClusterOrder, "a,,b")), []string{keys.ClusterOrder, "separated by commas"}},
		"unknown":      {pod(annotated(keys.Policy, "maybe")), []string{keys.Policy, `"maybe" is none of only, prefer, overflow`}},
		"token":        {pod(annotated(keys.Token, "mine")), []string{keys.Token, `"mine" is none of upper, lower, none`}},
		"empty policy": {pod(annotated(keys.Policy, "")), []string{keys.Policy}},
		"gate": {pod(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: keys.HintGate}} }),
			[]string{keys.HintGate, "remove it"}},
		"an amount of the marker": {pod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "first", Resources: corev1.ResourceRequirements{Limits: one}}}
		}), []string{keys.PodResource, "container first"}},
		"a mark with a broken seal": {pod(annotated(keys.Sealed, "{"), tolerating(everything), func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{keys.PodResource: resource.MustParse("0")}
		}), []string{keys.Sealed}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, err := Mark(test.pod, test.pod.Namespace, Settings{Standard: standard})
			if err == nil {
				t.Fatal("was marked")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
		})
	}
}

// TestMarkAgain has another webhook add constraints after ours: the API server calls ours once more.
func TestMarkAgain(t *testing.T) {
	target := translate.Target{VirtualNode: "a", Labels: map[string]string{keys.Cluster: "a"}}
	cases := map[string]struct {
		first  *corev1.Pod
		change func(*corev1.Pod)
		want   *corev1.Pod // Whose constraints the lower pod has.
	}{
		"a selector": {pod(selecting("disk", "ssd")), selecting("arch", "arm64"),
			pod(selecting("disk", "ssd"), selecting("arch", "arm64"))},
		"an affinity where there was none": {pod(), requiring(all(virtual, arm)), pod(requiring(all(arm)))},
		"an expression in each term":       {pod(requiring(all(ssd))), requiring(all(virtual, arm)), pod(requiring(all(ssd, arm)))},
		"a label":                          {pod(requiring(all(ssd))), func(p *corev1.Pod) { p.Labels["x"] = "y" }, pod(requiring(all(ssd)))},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			between := mustMark(t, test.first).DeepCopy()
			test.change(between)
			again := mustMark(t, between)
			for key := range again.Spec.NodeSelector {
				t.Errorf("%s stays above", key)
			}
			for _, term := range seal.Of(again).Required.NodeSelectorTerms {
				for _, e := range term.MatchExpressions {
					if e.Key != keys.Cluster {
						t.Errorf("%s stays above", e.Key)
					}
				}
			}
			lower, err := translate.LowerPod(again, target)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want.Spec.NodeSelector, lower.Spec.NodeSelector); diff != "" {
				t.Errorf("selector below:\n%s", diff)
			}
			if diff := cmp.Diff(seal.Of(test.want).Required, seal.Of(lower).Required); diff != "" {
				t.Errorf("affinity below:\n%s", diff)
			}
			if diff := cmp.Diff(again, mustMark(t, again)); diff != "" {
				t.Errorf("a third time:\n%s", diff)
			}
		})
	}
}

func TestKeepOff(t *testing.T) {
	ours := mustMark(t, pod())
	real1 := requiring(all(seal.Real))
	cases := map[string]struct{ pod, want *corev1.Pod }{
		"tolerates nothing":      {pod(), pod()},
		"ours":                   {ours, ours},
		"tolerates everything":   {pod(tolerating(everything)), pod(tolerating(everything), real1)},
		"another effect":         {pod(tolerating(corev1.Toleration{Operator: "Exists", Effect: "NoExecute"})), nil},
		"another key":            {pod(tolerating(corev1.Toleration{Key: "gpu", Operator: "Exists"})), nil},
		"our key with a value":   {pod(tolerating(corev1.Toleration{Key: keys.VirtualTaint, Value: "a"})), pod(tolerating(corev1.Toleration{Key: keys.VirtualTaint, Value: "a"}), real1)},
		"each term":              {pod(tolerating(everything), requiring(all(ssd), all(arm))), pod(tolerating(everything), requiring(all(ssd, seal.Real), all(arm, seal.Real)))},
		"already":                {pod(tolerating(everything), requiring(all(ssd, seal.Real))), nil},
		"a term without demands": {pod(tolerating(everything), requiring(term{}, all(arm))), pod(tolerating(everything), requiring(term{}, all(arm, seal.Real)))},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if test.want == nil {
				test.want = test.pod.DeepCopy()
			}
			before := test.pod.DeepCopy()
			if diff := cmp.Diff(test.want, KeepOff(test.pod)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, test.pod); diff != "" {
				t.Errorf("the argument was changed:\n%s", diff)
			}
			set := &appsv1.DaemonSet{}
			set.Spec.Template.Spec = test.pod.Spec
			if got := KeepOffTemplate(set); name != "ours" && !cmp.Equal(test.want.Spec, got.Spec.Template.Spec) {
				t.Errorf("template:\n%s", cmp.Diff(test.want.Spec, got.Spec.Template.Spec))
			}
		})
	}
}
