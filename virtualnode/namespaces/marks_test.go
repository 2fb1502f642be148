package namespaces

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

type set = map[string]string

func namespace(labels, annotations set) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "1", Labels: labels, Annotations: annotations}}
}

// with returns the marks of a namespace that stands for the upper one, and more.
func with(marks set, more set) set {
	all := set{}
	for _, m := range []set{marks, more} {
		maps.Copy(all, m)
	}
	return all
}

func TestBelow(t *testing.T) {
	t.Parallel()
	mark := set{keys.Upper: "me"}
	note := set{keys.UpperName: "ns", keys.UpperUID: "1"}
	for name, c := range map[string]struct {
		upper, present      *corev1.Namespace
		rules               Rules
		labels, annotations set
	}{
		"new, nothing said": {upper: namespace(set{"team": "a"}, nil), labels: mark, annotations: note},
		"labels of the list": {
			upper: namespace(set{"team": "a", "secret": "x"}, nil), rules: Rules{Labels: []string{"team", "cost"}},
			labels: with(mark, set{"team": "a"}), annotations: with(note, set{keys.NamespaceLabels: "cost,team"}),
		},
		"keys that have a meaning of their own are not taken over": {
			upper:  namespace(set{keys.Enabled: "true", keys.OpenTo: "any", corev1.LabelMetadataName: "other"}, nil),
			rules:  Rules{Labels: []string{keys.Enabled, keys.OpenTo, corev1.LabelMetadataName, enforce}},
			labels: mark, annotations: note,
		},
		"a label removed above goes, others stay": {
			upper:   namespace(nil, nil),
			present: namespace(with(mark, set{"team": "a", "theirs": "b"}), with(note, set{keys.NamespaceLabels: "team", "theirs": "c"})),
			rules:   Rules{Labels: []string{"team"}},
			labels:  with(mark, set{"theirs": "b"}), annotations: with(note, set{keys.NamespaceLabels: "team", "theirs": "c"}),
		},
		"a key that another virtual node takes over": {
			upper: namespace(set{"team": "b"}, nil), present: namespace(with(mark, set{"team": "a"}), with(note, set{keys.NamespaceLabels: "team"})),
			labels: with(mark, set{"team": "b"}), annotations: with(note, set{keys.NamespaceLabels: "team"}),
		},
		"the level of above": {
			upper:  namespace(set{enforce: "restricted", enforceVersion: "v1.30", podSecurity + "warn": "restricted"}, nil),
			labels: with(mark, set{enforce: "restricted", enforceVersion: "v1.30", podSecurity + "warn": "restricted"}), annotations: note,
		},
		"raised": {
			upper: namespace(set{enforce: "baseline", enforceVersion: "v1.30"}, nil), rules: Rules{PodSecurity: "restricted"},
			labels: with(mark, set{enforce: "restricted"}), annotations: with(note, set{keys.PodSecurity: "restricted"}),
		},
		"raised where there is none": {
			upper: namespace(nil, nil), rules: Rules{PodSecurity: "baseline"},
			labels: with(mark, set{enforce: "baseline"}), annotations: with(note, set{keys.PodSecurity: "baseline"}),
		},
		"not lowered": {
			upper: namespace(set{enforce: "restricted"}, nil), rules: Rules{PodSecurity: "baseline"},
			labels: with(mark, set{enforce: "restricted"}), annotations: with(note, set{keys.PodSecurity: "baseline"}),
		},
		"raised by another virtual node": {
			upper: namespace(nil, nil), present: namespace(with(mark, set{enforce: "restricted"}), with(note, set{keys.PodSecurity: "restricted"})),
			rules:  Rules{PodSecurity: "baseline"},
			labels: with(mark, set{enforce: "restricted"}), annotations: with(note, set{keys.PodSecurity: "restricted"}),
		},
		"lowered above": {
			upper: namespace(set{enforce: "baseline"}, nil), present: namespace(with(mark, set{enforce: "restricted"}), note),
			labels: with(mark, set{enforce: "baseline"}), annotations: note,
		},
		"privileged above overrides nothing below": {upper: namespace(set{enforce: "privileged"}, nil), labels: mark, annotations: note},
		"a level that nobody knows": {
			upper: namespace(set{enforce: "medium"}, nil), labels: with(mark, set{enforce: "restricted"}), annotations: note,
		},
		"made again above": {
			upper: namespace(nil, nil), present: namespace(mark, set{keys.UpperName: "ns", keys.UpperUID: "0"}), labels: mark, annotations: note,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := below(c.upper, c.present, "ns", "me", c.rules)
			if diff := cmp.Diff(c.labels, got.Labels); diff != "" {
				t.Error("labels", diff)
			}
			if diff := cmp.Diff(c.annotations, got.Annotations); diff != "" {
				t.Error("annotations", diff)
			}
			if again := below(c.upper, got, "ns", "me", c.rules); !same(got, again) {
				t.Errorf("a second look changes it: %v %v", again.Labels, again.Annotations)
			}
		})
	}
}

// Two virtual nodes that are configured differently come to the same namespace, whoever looks first.
func TestBelowAgree(t *testing.T) {
	t.Parallel()
	upper := namespace(set{"team": "a", "cost": "b", enforce: "baseline"}, nil)
	one := Rules{Labels: []string{"team"}, PodSecurity: "restricted"}
	two := Rules{Labels: []string{"cost"}}
	first := below(upper, below(upper, nil, "ns", "me", one), "ns", "me", two)
	second := below(upper, below(upper, nil, "ns", "me", two), "ns", "me", one)
	if !same(first, second) || !same(first, below(upper, first, "ns", "me", one)) {
		t.Errorf("%v %v, %v %v", first.Labels, first.Annotations, second.Labels, second.Annotations)
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	stored := metav1.Verbs{"create", "delete", "list"}
	lists := []*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Namespaced: true, Verbs: stored}, {Name: "pods/eviction", Namespaced: true, Verbs: metav1.Verbs{"create"}},
			{Name: "secrets", Namespaced: true, Verbs: stored}, {Name: "events", Namespaced: true, Verbs: stored},
			{Name: "nodes", Verbs: stored},
		}},
		{GroupVersion: "metrics.k8s.io/v1beta1", APIResources: []metav1.APIResource{{Name: "pods", Namespaced: true, Verbs: metav1.Verbs{"get", "list"}}}},
		{GroupVersion: "example.com/v1", APIResources: []metav1.APIResource{{Name: "things", Namespaced: true, Verbs: stored}}},
	}
	kinds, unknown := countable(lists)
	if diff := cmp.Diff([]string{"count/pods", "count/secrets", "count/things.example.com"}, kinds); diff != "" || unknown != "" {
		t.Fatal(diff, unknown)
	}
	usual := map[string]int64{"count/secrets": 1}
	for name, c := range map[string]struct {
		used set
		done bool
		left string
	}{
		"not counted":      {nil, false, ""},
		"half counted":     {set{"count/secrets": "1", "count/pods": "0"}, false, ""},
		"empty":            {set{"count/secrets": "1", "count/pods": "0", "count/things.example.com": "0"}, true, ""},
		"a pod":            {set{"count/secrets": "1", "count/pods": "1", "count/things.example.com": "0"}, true, "1 pods"},
		"a second one":     {set{"count/secrets": "3", "count/pods": "0", "count/things.example.com": "0"}, true, "2 secrets"},
		"a custom object":  {set{"count/secrets": "0", "count/pods": "0", "count/things.example.com": "1"}, true, "1 things.example.com"},
		"less than usual":  {set{"count/secrets": "0", "count/pods": "0", "count/things.example.com": "0"}, true, ""},
		"counted too much": {set{"count/secrets": "1", "count/pods": "0", "count/things.example.com": "0", "count/x": "4"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if done, left := holds(quotaOf(c.used), kinds, usual); done != c.done || left != c.left {
				t.Errorf("done %t, left %q", done, left)
			}
		})
	}
	long := []*metav1.APIResourceList{{GroupVersion: "a-very-long-group-name-of-some-company.with-many-parts.example.com/v1",
		APIResources: []metav1.APIResource{{Name: "things", Namespaced: true, Verbs: stored}}}}
	if _, unknown := countable(long); unknown == "" {
		t.Error("a kind with a name too long for a quota is taken for countable")
	}
	if _, unknown := countable(nil); unknown == "" {
		t.Error("an API server that tells of no kinds is taken for one that has none")
	}
}
