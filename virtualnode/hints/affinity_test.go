package hints

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// labelled is met by nodes whose label has the value.
func labelled(key, value string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}
}

func expressions(list ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: list}
}

func requiring(terms ...corev1.NodeSelectorTerm) corev1.PodSpec {
	return corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
	}}}
}

// A required hint leaves of the nodes that the user's terms allow the hinted one at most, and never adds one.
func TestRequiredHintNarrowsTheUsersTerms(t *testing.T) {
	t.Parallel()
	ssd, west := expressions(labelled("disk", "ssd")), expressions(labelled("zone", "west"))
	notN1 := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{
		{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"n1"}},
	}}
	selector := corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}
	preferring := corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 7, Preference: west}},
	}}}
	cases := map[string]struct {
		spec  corev1.PodSpec
		terms int
		stays bool // the user's terms allow n1
	}{
		"no affinity":                  {corev1.PodSpec{}, 1, true},
		"a node selector":              {selector, 1, true},
		"preferences only":             {preferring, 1, true},
		"pod affinity only":            {corev1.PodSpec{Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}}}, 1, true},
		"one term":                     {requiring(ssd), 1, true},
		"several terms":                {requiring(west, ssd, expressions(labelled("disk", "ssd"), labelled("zone", "east"))), 3, true},
		"terms that exclude the node":  {requiring(west, expressions(labelled("disk", "tape"))), 2, false},
		"another node by name":         {requiring(corev1.NodeSelectorTerm{MatchFields: named("n2")}), 1, false},
		"another node by name, or any": {requiring(corev1.NodeSelectorTerm{MatchFields: named("n2")}, ssd), 2, true},
		"any node but this one":        {requiring(notN1), 1, false},
		"a term that matches nothing":  {requiring(corev1.NodeSelectorTerm{}), 1, false},
		"that one and a good one":      {requiring(corev1.NodeSelectorTerm{}, ssd), 2, true},
	}
	nodes := []*corev1.Node{}
	for name, labels := range map[string]map[string]string{
		"n1": {"disk": "ssd", "zone": "east"}, "n2": {"disk": "ssd", "zone": "west"}, "n3": {"disk": "tape"},
	} {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := &corev1.Pod{Spec: *c.spec.DeepCopy()}
			after := &corev1.Pod{Spec: c.spec}
			addToAffinity(&after.Spec, Required, "n1")
			for _, node := range nodes {
				allowed := allows(t, before, node)
				if node.Name == "n1" && allowed != c.stays {
					t.Fatalf("the user's terms allow n1: %t, so this case is not what it says", allowed)
				}
				if got, want := allows(t, after, node), allowed && node.Name == "n1"; got != want {
					t.Errorf("node %s: %t, want %t", node.Name, got, want)
				}
			}
			if diff := cmp.Diff(withoutDemands(before), withoutDemands(after)); diff != "" {
				t.Errorf("more than the required terms was changed: %s", diff)
			}
			terms := after.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			if len(terms) != c.terms {
				t.Errorf("%d terms, want %d: of a gated pod the API server takes no others", len(terms), c.terms)
			}
		})
	}
}

func withoutDemands(pod *corev1.Pod) corev1.PodSpec {
	spec := *pod.Spec.DeepCopy()
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = nil
	return spec
}

func allows(t *testing.T, pod *corev1.Pod, node *corev1.Node) bool {
	t.Helper()
	matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	if err != nil {
		t.Fatal(err)
	}
	return matches
}

func TestPreferredHintStandsBesideTheUsersTerms(t *testing.T) {
	t.Parallel()
	terms := func(weights ...int32) []corev1.PreferredSchedulingTerm {
		var list []corev1.PreferredSchedulingTerm
		for _, weight := range weights {
			list = append(list, corev1.PreferredSchedulingTerm{Weight: weight, Preference: expressions(labelled("disk", "ssd"))})
		}
		return list
	}
	hint := corev1.PreferredSchedulingTerm{Weight: 100, Preference: corev1.NodeSelectorTerm{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
	}}
	required := requiring(expressions(labelled("zone", "west"))).Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	cases := map[string]struct{ before, want *corev1.Affinity }{
		"no affinity": {nil, &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{hint}}}},
		"pod affinity": {&corev1.Affinity{PodAffinity: &corev1.PodAffinity{}},
			&corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{hint}}}},
		"preferences": {&corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: terms(60, 100)}},
			&corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: append(terms(60, 100), hint)}}},
		"demands": {&corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}},
			&corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required,
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{hint}}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := corev1.PodSpec{Affinity: c.before}
			addToAffinity(&spec, Preferred, "n1")
			if diff := cmp.Diff(c.want, spec.Affinity); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A translated pod may share what its affinity points to with the upper pod in the cache.
func TestAddToAffinityWritesToNothingThatIsShared(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Preferred, Required} {
		spare := append(make([]corev1.NodeSelectorRequirement, 0, 4), named("n1")...)
		shared := requiring(corev1.NodeSelectorTerm{MatchFields: spare})
		before, spec := shared.DeepCopy(), shared
		addToAffinity(&spec, mode, "n1")
		if diff := cmp.Diff(*before, shared); diff != "" {
			t.Errorf("%s: the affinity that was handed in changed: %s", mode, diff)
		}
		if spare[:2][1].Key != "" {
			t.Errorf("%s: the hint was written into the spare room of the user's list", mode)
		}
	}
}

func TestOtherModesLeaveTheAffinityAlone(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Nominated, Off} {
		spec := corev1.PodSpec{}
		if addToAffinity(&spec, mode, "n1"); spec.Affinity != nil {
			t.Errorf("%s: %v", mode, spec.Affinity)
		}
	}
}
