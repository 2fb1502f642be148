package mutate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// onA is a virtual node, as LowerPod sees it.
var onA = translate.Target{VirtualNode: "a", Labels: map[string]string{keys.Cluster: "a"}}

func below(t *testing.T, p *corev1.Pod) seal.Constraints {
	t.Helper()
	lower, err := translate.LowerPod(p, onA)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Of(lower)
}

func spreading(key string, when corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		})
	}
}

func apart(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Spec.Affinity == nil {
			p.Spec.Affinity = &corev1.Affinity{}
		}
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: termsOver(key)}
	}
}

func together(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Spec.Affinity == nil {
			p.Spec.Affinity = &corev1.Affinity{}
		}
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: termsOver(key)}
	}
}

func termsOver(key string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
}

const hostname = corev1.LabelHostname

// TestOnlySealsAll: under `only` nothing about lower nodes or other pods is asked above, and all of it below, but for what is asked of all
// clusters together.
func TestOnlySealsAll(t *testing.T) {
	p := pod(selecting("disk", "ssd"), requiring(all(arm)), spreading(hostname, corev1.DoNotSchedule), spreading(keys.Cluster, corev1.DoNotSchedule),
		spreading("rack", corev1.ScheduleAnyway), apart(hostname), together("rack"))
	p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{
		{Weight: 1, Preference: all(ssd)}, {Weight: 2, Preference: all(expr(keys.Cluster, "In", "a"))},
		{Weight: 3, Preference: all(expr(keys.Cluster, "In", "a"), ssd)}, {Weight: 4, Preference: all(expr(keys.Cluster, "In", "b"), ssd)},
	}
	marked := mustMark(t, p)
	above := seal.Of(marked)
	want := seal.Constraints{
		Required:  &corev1.NodeSelector{NodeSelectorTerms: []term{all(virtual)}},
		Preferred: []corev1.PreferredSchedulingTerm{{Weight: 2, Preference: all(expr(keys.Cluster, "In", "a"))}},
	}
	if diff := cmp.Diff(want, above); diff != "" {
		t.Errorf("above:\n%s", diff)
	}
	lower := below(t, marked)
	user := seal.Of(p)
	want = user
	want.Spread = []corev1.TopologySpreadConstraint{user.Spread[0], user.Spread[2]}
	want.Preferred = []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: all(ssd)}, {Weight: 3, Preference: all(ssd)}}
	if diff := cmp.Diff(want, lower); diff != "" {
		t.Errorf("below:\n%s", diff)
	}
	whole, err := seal.Unseal(marked)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(user, whole); diff != "" {
		t.Errorf("unsealed:\n%s", diff)
	}
	if diff := cmp.Diff(user.Spread[1:2], whole.OverClusters().Spread); diff != "" {
		t.Errorf("over clusters:\n%s", diff)
	}
}

// TestWhatRealNodesSeeStays: under `prefer` and `overflow` what is asked of real nodes stays, in the form that leaves virtual ones out.
func TestWhatRealNodesSeeStays(t *testing.T) {
	onlyReal, gpuOnB := seal.Real, all(expr(keys.Cluster, "In", "b"), expr("gpu", "Exists"))
	for _, policy := range []string{keys.PolicyPrefer, keys.PolicyOverflow} {
		p := pod(annotated(keys.Policy, policy), selecting("disk", "ssd"), requiring(all(arm), gpuOnB), apart(hostname), spreading(hostname, corev1.ScheduleAnyway))
		marked := mustMark(t, p)
		above := seal.Of(marked)
		selected := expr("disk", "In", "ssd")
		want := seal.Of(p)
		want.NodeSelector = nil
		want.Required = &corev1.NodeSelector{NodeSelectorTerms: []term{
			all(arm, selected, onlyReal), all(gpuOnB.MatchExpressions[0], gpuOnB.MatchExpressions[1], selected, onlyReal),
			all(virtual), all(gpuOnB.MatchExpressions[0], virtual),
		}}
		if diff := cmp.Diff(want, above); diff != "" {
			t.Errorf("%s, above:\n%s", policy, diff)
		}
		want = seal.Of(p)
		want.Required = &corev1.NodeSelector{NodeSelectorTerms: []term{all(arm)}}
		if diff := cmp.Diff(want, below(t, marked)); diff != "" {
			t.Errorf("%s, below:\n%s", policy, diff)
		}
		if marked.Annotations[keys.Policy] != policy || marked.Annotations[keys.Tolerations] != "" {
			t.Errorf("annotations %v", marked.Annotations)
		}
		if diff := cmp.Diff(marked, mustMark(t, marked)); diff != "" {
			t.Errorf("%s, marked twice:\n%s", policy, diff)
		}
	}
}

// TestWhatNodesOfBothKindsCannotMeet: it keeps the pod on one kind, and the user is told which and why.
func TestWhatNodesOfBothKindsCannotMeet(t *testing.T) {
	cases := map[string]struct {
		p       *corev1.Pod
		marked  bool
		warning string
	}{
		"hard spread over nodes":    {pod(spreading(hostname, corev1.DoNotSchedule)), false, "stays on real nodes"},
		"hard affinity over nodes":  {pod(together("rack")), false, "stays on real nodes"},
		"anti-affinity over nodes":  {pod(apart(hostname)), true, ""},
		"soft spread over nodes":    {pod(spreading(hostname, corev1.ScheduleAnyway)), true, ""},
		"hard spread over clusters": {pod(spreading(keys.Cluster, corev1.DoNotSchedule)), true, "goes to those alone"},
		"apart from others' pods":   {pod(apart(keys.Zone)), true, "goes to those alone"},
		"soft spread over clusters": {pod(spreading(keys.Cluster, corev1.ScheduleAnyway)), true, ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			annotated(keys.Policy, keys.PolicyPrefer)(test.p)
			got, warnings, err := Mark(test.p, "shop", Settings{})
			if err != nil {
				t.Fatal(err)
			}
			if translate.Marked(got) != test.marked || !strings.Contains(strings.Join(warnings, "|"), test.warning) || (test.warning == "") != (len(warnings) == 0) {
				t.Errorf("marked %t, warnings %q", translate.Marked(got), warnings)
			}
			if d, told := seal.DecisionOf(got); !told || d.Marked != test.marked || (d.Why != "") != (test.warning != "") {
				t.Errorf("decision %+v", d)
			}
			if !test.marked && !cmp.Equal(test.p.Spec, got.Spec) {
				t.Errorf("the spec was changed:\n%s", cmp.Diff(test.p.Spec, got.Spec))
			}
			again, _, err := Mark(got, "shop", Settings{})
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("again: %v\n%s", err, diff)
			}
		})
	}
}

// TestSettings: a pod's own word counts before its namespace's, and that before the configuration's, and where it comes from is told.
func TestSettings(t *testing.T) {
	config := Settings{Policy: keys.PolicyPrefer, ClusterOrder: []string{"a", "b"}, Architecture: "amd64", SchedulerName: "tessera", Schedulers: []string{"batch"}}
	team := config
	team.Namespace = func(name string) (map[string]string, error) {
		return map[string]map[string]string{"shop": {keys.Policy: keys.PolicyOverflow, keys.ClusterOrder: "b, a", keys.Architecture: "arm64"}}[name], nil
	}
	cases := map[string]struct {
		settings                             Settings
		pod                                  *corev1.Pod
		policy, order, architecture, decided string
	}{
		"nothing said": {Settings{}, pod(), keys.PolicyOnly, "", "", `{"policy":"config"}`},
		"config": {config, pod(), keys.PolicyPrefer, "a,b", "amd64",
			`{"architecture":"config","clusterOrder":"config","policy":"config","schedulerName":"config"}`},
		"namespace": {team, pod(), keys.PolicyOverflow, "b, a", "arm64",
			`{"architecture":"namespace","clusterOrder":"namespace","policy":"namespace","schedulerName":"config"}`},
		"pod": {team, pod(annotated(keys.Policy, keys.PolicyOnly), annotated(keys.ClusterOrder, "c"), selecting(corev1.LabelArchStable, "riscv64"), by("batch")),
			keys.PolicyOnly, "c", "riscv64", `{"architecture":"namespace","clusterOrder":"pod","policy":"pod"}`},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, _, err := Mark(test.pod, "shop", test.settings)
			if err != nil {
				t.Fatal(err)
			}
			lower := below(t, got)
			if got.Annotations[keys.Policy] != test.policy || got.Annotations[keys.ClusterOrder] != test.order || lower.NodeSelector[corev1.LabelArchStable] != test.architecture {
				t.Errorf("annotations %v, below %v", got.Annotations, lower.NodeSelector)
			}
			if want := `{"marked":true,"from":` + test.decided + `}`; got.Annotations[keys.Decision] != want {
				t.Errorf("decision\n%s, want\n%s", got.Annotations[keys.Decision], want)
			}
			again, _, err := Mark(got, "shop", test.settings)
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("again: %v\n%s", err, diff)
			}
		})
	}
}

func by(scheduler string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.SchedulerName = scheduler }
}

// TestSchedulers: no marked pod goes to a scheduler that does not ask.
func TestSchedulers(t *testing.T) {
	cases := map[string]struct {
		settings Settings
		asked    string
		want     string // "" is denied
	}{
		"nothing is known":         {Settings{}, "mine", "mine"},
		"default becomes ours":     {Settings{SchedulerName: "tessera"}, corev1.DefaultSchedulerName, "tessera"},
		"none becomes ours":        {Settings{SchedulerName: "tessera"}, "", "tessera"},
		"ours":                     {Settings{SchedulerName: "tessera"}, "tessera", "tessera"},
		"one that asks":            {Settings{SchedulerName: "tessera", Schedulers: []string{"mine"}}, "mine", "mine"},
		"one that does not":        {Settings{SchedulerName: "tessera"}, "mine", ""},
		"the default asks not":     {Settings{Schedulers: []string{"mine"}}, corev1.DefaultSchedulerName, ""},
		"the default one is named": {Settings{Schedulers: []string{corev1.DefaultSchedulerName}}, corev1.DefaultSchedulerName, corev1.DefaultSchedulerName},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			got, _, err := Mark(pod(by(test.asked)), "shop", test.settings)
			switch {
			case test.want == "" && (err == nil || !strings.Contains(err.Error(), "spec.schedulerName")):
				t.Errorf("error %v", err)
			case test.want != "" && (err != nil || got.Spec.SchedulerName != test.want):
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// TestSealsOnlyNarrow: whoever writes a seal, it counts beside what the spec says, and reports that come along are taken off.
func TestSealsOnlyNarrow(t *testing.T) {
	forged := pod(annotated(keys.Sealed, `{"nodeSelector":{"pool":"b"},"requiredNodeAffinity":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"x","operator":"Exists"}]}]},
		"standard":{"kubernetes.io/arch":"any"},"upperKeys":["pool"]}`), annotated(keys.LowerIP, "1.2.3.4"), annotated(keys.LowerNode, "n"), annotated(keys.HintNode, "n"))
	if _, _, err := Mark(withSpec(forged, selecting("pool", "a")), "shop", Settings{}); err == nil || !strings.Contains(err.Error(), `node selector pool: both "b" and "a"`) {
		t.Errorf("two pools: %v", err)
	}
	got := mustMark(t, withSpec(forged, selecting("disk", "ssd"), requiring(all(arm))))
	want := seal.Constraints{
		NodeSelector: map[string]string{"pool": "b", "disk": "ssd"},
		Required:     &corev1.NodeSelector{NodeSelectorTerms: []term{all(expr("x", "Exists"), arm)}},
	}
	if diff := cmp.Diff(want, below(t, got)); diff != "" {
		t.Errorf("below:\n%s", diff)
	}
	for _, key := range []string{keys.LowerIP, keys.LowerNode, keys.HintNode} {
		if _, there := got.Annotations[key]; there {
			t.Errorf("%s stays", key)
		}
	}
}

func withSpec(p *corev1.Pod, changes ...func(*corev1.Pod)) *corev1.Pod {
	p = p.DeepCopy()
	for _, change := range changes {
		change(p)
	}
	return p
}

// TestWhatIsSealedIsValidated: the API server does not see it any more, so its own validation is asked before.
func TestWhatIsSealedIsValidated(t *testing.T) {
	cases := map[string]struct {
		p    *corev1.Pod
		want string
	}{
		"skew":      {pod(spreading(hostname, corev1.DoNotSchedule), func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints[0].MaxSkew = 0 }), "spec.topologySpreadConstraints[0].maxSkew"},
		"operator":  {pod(requiring(all(expr("a", "Is", "b")))), "operator"},
		"label key": {pod(selecting("a b", "c")), "spec.nodeSelector"},
		"topology":  {pod(apart("")), "topologyKey"},
		"terms":     {pod(requiring(make([]term, 201)...), func(p *corev1.Pod) { fill(p) }), "201 terms"},
		"bytes":     {pod(requiring(all(expr("a", "In", many(2000)...)))), "bytes, more than 65536"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Mark(test.p, "shop", Settings{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func fill(p *corev1.Pod) {
	terms := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range terms {
		terms[i] = all(expr("a", "In", many(i + 1)[i]))
	}
}

func many(count int) []string {
	values := make([]string, count)
	for i := range values {
		values[i] = strings.Repeat("v", 30) + strings.Repeat("w", i%30)
	}
	return values
}
