package translate

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

func TestLowerNamespace(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 60)
	for name, c := range map[string]struct{ prefix, upper, want string }{
		"same":                         {"", "shop", "shop"},
		"prefix":                       {"team-a-", "shop", "team-a-shop"},
		"63 characters fit":            {"abc", long, "abc" + long},
		"64 are cut":                   {"abcd", long, "abcd" + strings.Repeat("n", 42) + "-ff2b2500cfe21459"},
		"no dash is left before a cut": {"abcd", strings.Repeat("n", 40) + "--" + strings.Repeat("n", 18), ""},
	} {
		got := Rules{NamespacePrefix: c.prefix}.LowerNamespace(c.upper)
		if c.want != "" && got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if faults := validation.IsDNS1123Label(got); faults != nil {
			t.Errorf("%s: %s is no name of a namespace: %v", name, got, faults)
		}
		if other := (Rules{NamespacePrefix: c.prefix}).LowerNamespace(c.upper[:len(c.upper)-1] + "x"); other == got {
			t.Errorf("%s: another namespace gets the same name %s", name, got)
		}
	}
}

func TestNamespacesInAffinity(t *testing.T) {
	t.Parallel()
	term := func(prefix string) corev1.PodAffinityTerm {
		return corev1.PodAffinityTerm{
			TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "a"}},
			Namespaces: []string{prefix + "a", prefix + "b"},
			NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: prefix + "a", "team": "a"},
				MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{prefix + "b", prefix + "c"}},
					{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a"}},
				},
			},
		}
	}
	affinity := func(term corev1.PodAffinityTerm) *corev1.Affinity {
		required, preferred := []corev1.PodAffinityTerm{term}, []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: term}}
		return &corev1.Affinity{
			PodAffinity: &corev1.PodAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred},
			PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred},
		}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Affinity: affinity(term(""))}}
	lower := lowered(t, pod, Rules{NamespacePrefix: "t-"})
	if diff := cmp.Diff(affinity(term("t-")), lower.Spec.Affinity); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(affinity(term("")), pod.Spec.Affinity); diff != "" {
		t.Errorf("the upper pod has changed: %s", diff)
	}
}

func lowered(t *testing.T, pod *corev1.Pod, rules Rules) *corev1.Pod {
	t.Helper()
	lower, err := LowerPod(pod, Target{VirtualNode: "v", Labels: map[string]string{keys.Cluster: "a"}, Identity: "us", Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return lower
}

// Terms are alternatives: each has to demand a node that takes part.
func TestNodesThatTakePart(t *testing.T) {
	t.Parallel()
	shared, ssd, onA := in("pool", "shared"), in("disk", "ssd"), in(keys.Cluster, "a")
	name := []requirement{in("metadata.name", "n1")}
	for test, c := range map[string]struct {
		nodes string
		pod   *corev1.Pod
		want  *corev1.NodeSelector
	}{
		"none":               {"", podWith(nil, all(ssd)), want(all(ssd))},
		"a pod without":      {"pool=shared", podWith(nil), want(all(shared))},
		"every term":         {"pool=shared", podWith(nil, all(ssd), term{MatchFields: name}), want(all(ssd, shared), term{MatchExpressions: []requirement{shared}, MatchFields: name})},
		"one term is met":    {"pool=shared", podWith(nil, all(onA), all(ssd)), want(all(shared))},
		"nothing stays none": {"pool=shared", podWith(nil, term{}), want(all(append(nothing.MatchExpressions, shared)...))},
		"all operators": {"a,!b,c!=d,e in (g,f),h notin (i),j==k", podWith(nil), want(all(
			requirement{Key: "a", Operator: corev1.NodeSelectorOpExists}, requirement{Key: "b", Operator: corev1.NodeSelectorOpDoesNotExist},
			requirement{Key: "c", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"d"}}, in("e", "f", "g"),
			requirement{Key: "h", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"i"}}, in("j", "k")))},
	} {
		lower := lowered(t, c.pod, Rules{Nodes: c.nodes})
		if diff := cmp.Diff(encode(t, c.want), encode(t, seal.Of(lower).Required)); diff != "" {
			t.Errorf("%s:\n%s", test, diff)
		}
	}
	if _, err := LowerPod(podWith(nil), Target{Rules: Rules{Nodes: "="}}); err == nil {
		t.Error("a selector that cannot be read was accepted")
	}
}

func TestPriorityBelow(t *testing.T) {
	t.Parallel()
	never, seven := corev1.PreemptNever, int32(7)
	classes := map[string]string{"high": "middle", "": "guest"}
	for name, c := range map[string]struct {
		rules       Rules
		class, want string
	}{
		"by default none":            {Rules{}, "high", ""},
		"none":                       {Rules{Priority: PriorityNone, PriorityClasses: classes}, "high", ""},
		"same":                       {Rules{Priority: PrioritySame}, "high", "high"},
		"map":                        {Rules{Priority: PriorityMap, PriorityClasses: classes}, "high", "middle"},
		"map, no entry":              {Rules{Priority: PriorityMap, PriorityClasses: classes}, "low", "guest"},
		"map, no class":              {Rules{Priority: PriorityMap, PriorityClasses: classes}, "", "guest"},
		"map, nothing for the class": {Rules{Priority: PriorityMap, PriorityClasses: map[string]string{"high": "middle"}}, "low", ""},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: c.class, Priority: &seven, PreemptionPolicy: &never}}
		got := lowered(t, pod, c.rules).Spec
		if got.PriorityClassName != c.want || got.Priority != nil || got.PreemptionPolicy != nil {
			t.Errorf("%s: class %q, priority %v, policy %v; want class %q alone", name, got.PriorityClassName, got.Priority, got.PreemptionPolicy, c.want)
		}
	}
}

func TestPowers(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	privileged := &corev1.SecurityContext{Privileged: &yes}
	windows := &corev1.WindowsSecurityContextOptions{HostProcess: &yes}
	for field, c := range map[string]struct {
		power Power
		spec  corev1.PodSpec
	}{
		"spec.hostNetwork": {HostNamespaces, corev1.PodSpec{HostNetwork: true}},
		"spec.hostPID":     {HostNamespaces, corev1.PodSpec{HostPID: true}},
		"spec.hostIPC":     {HostNamespaces, corev1.PodSpec{HostIPC: true}},
		"spec.volumes[data].hostPath": {HostPath, corev1.PodSpec{Volumes: []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}}},
		"spec.containers[c].securityContext.privileged": {Privileged, corev1.PodSpec{
			Containers: []corev1.Container{{Name: "a"}, {Name: "c", SecurityContext: privileged}}}},
		"spec.initContainers[c].securityContext.privileged": {Privileged, corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "c", SecurityContext: privileged}}}},
		"spec.ephemeralContainers[c].securityContext.privileged": {Privileged, corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "c", SecurityContext: privileged}}}}},
		"spec.containers[c].securityContext.windowsOptions.hostProcess": {Privileged, corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", SecurityContext: &corev1.SecurityContext{WindowsOptions: windows}}}}},
		"spec.securityContext.windowsOptions.hostProcess": {Privileged, corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{WindowsOptions: windows}}},
	} {
		pod := &corev1.Pod{Spec: c.spec}
		for _, allow := range [][]Power{nil, without(c.power)} {
			lower, err := LowerPod(pod, Target{VirtualNode: "v", Rules: Rules{Allow: allow}})
			refusal := (*NotAllowed)(nil)
			if !errors.As(err, &refusal) || lower != nil {
				t.Errorf("%s, allowed %v: pod %v, error %v", field, allow, lower, err)
				continue
			}
			if diff := cmp.Diff(&NotAllowed{VirtualNode: "v", Power: c.power, Field: field}, refusal); diff != "" {
				t.Error(diff)
			}
			if text := refusal.Error(); !strings.HasPrefix(text, field) || !strings.Contains(text, "allow: ["+string(c.power)+"]") {
				t.Errorf("the text names neither the field nor the key: %s", text)
			}
		}
		lowered(t, pod, Rules{Allow: []Power{c.power}})
	}
	lowered(t, &corev1.Pod{Spec: corev1.PodSpec{ // Saying no asks for nothing.
		HostUsers: &no, Containers: []corev1.Container{{SecurityContext: &corev1.SecurityContext{Privileged: &no}}},
	}}, Rules{})
}

func without(power Power) []Power {
	var others []Power
	for _, p := range Powers() {
		if p != power {
			others = append(others, p)
		}
	}
	return others
}

// A field that names the virtual node speaks of it; one that names another node is for the lower cluster to meet.
func TestFieldsThatNameTheVirtualNode(t *testing.T) {
	t.Parallel()
	ssd := in("disk", "ssd")
	not := func(name string) requirement {
		return requirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpNotIn, Values: []string{name}}
	}
	named := func(fields ...requirement) term { return term{MatchFields: fields} }
	both := term{MatchExpressions: []requirement{ssd}, MatchFields: []requirement{in(metav1.ObjectNameField, "a")}}
	for test, c := range map[string]struct {
		terms []term
		want  *corev1.NodeSelector
	}{
		"it":                   {[]term{named(in(metav1.ObjectNameField, "a"))}, nil},
		"it, and more":         {[]term{both}, want(all(ssd))},
		"it or something else": {[]term{named(in(metav1.ObjectNameField, "a")), all(ssd)}, nil},
		"not it":               {[]term{named(not("a"))}, want(nothing)},
		"not it, or else":      {[]term{named(not("a")), all(ssd)}, want(all(ssd))},
		"a lower node":         {[]term{named(in(metav1.ObjectNameField, "n1"))}, want(named(in(metav1.ObjectNameField, "n1")))},
		"not a lower node":     {[]term{named(not("n1"))}, want(named(not("n1")))},
	} {
		lower := lowered(t, podWith(nil, c.terms...), Rules{})
		if diff := cmp.Diff(encode(t, c.want), encode(t, seal.Of(lower).Required)); diff != "" {
			t.Errorf("%s:\n%s", test, diff)
		}
	}
}
