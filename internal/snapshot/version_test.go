package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		asksAgain  bool
		unreadable bool
		known      bool
	}{
		"v1.37.2":              {known: true},
		"v1.36.3":              {asksAgain: true, known: true},
		"v1.35.4-gke.1042000":  {asksAgain: true, known: true},
		"v1.37.0-rc.1":         {known: true},
		"v1.38.0":              {},
		"v1.33.9+k3s1":         {asksAgain: true, known: true},
		"1.40":                 {},
		"v2.0.0":               {},
		"":                     {unreadable: true},
		"v0.0.0-master+$Form$": {asksAgain: true},
		"latest":               {unreadable: true},
	} {
		v, err := ParseVersion(text)
		shown := map[bool]string{false: text}[want.unreadable]
		if (err != nil) != want.unreadable || v.String() != shown || v.asksSelectorAgain() != want.asksAgain || v.Known() != want.known {
			t.Errorf("%q is read as %q, asks again %t, known %t, error %v; want %+v", text, v, v.asksSelectorAgain(), v.Known(), err, want)
		}
	}
	if (Version{}).asksSelectorAgain() {
		t.Error("an unknown version is not the newest")
	}
}

// The newest plugins give an older version's answer to the pod that Asking returns.
func TestAsking(t *testing.T) {
	t.Parallel()
	old, err := ParseVersion("v1.36.3")
	if err != nil {
		t.Fatal(err)
	}
	term := func(selector *metav1.LabelSelector) corev1.PodAffinityTerm {
		return corev1.PodAffinityTerm{TopologyKey: "zone", NamespaceSelector: selector}
	}
	labeled := &metav1.LabelSelector{MatchLabels: map[string]string{"team": "red"}}
	unlabeled := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	everyone := &metav1.LabelSelector{}
	asks := func(selectors ...*metav1.LabelSelector) *corev1.Pod {
		near, apart := &corev1.PodAffinity{}, &corev1.PodAntiAffinity{}
		for _, s := range selectors {
			near.RequiredDuringSchedulingIgnoredDuringExecution = append(near.RequiredDuringSchedulingIgnoredDuringExecution, term(s))
			apart.RequiredDuringSchedulingIgnoredDuringExecution = append(apart.RequiredDuringSchedulingIgnoredDuringExecution, term(s))
		}
		return &corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{PodAffinity: near, PodAntiAffinity: apart}}}
	}
	given := asks(nil, everyone, labeled, unlabeled)
	before := given.DeepCopy()
	if diff := cmp.Diff(asks(nil, everyone, labeled, everyone), old.Asking(given)); diff != "" {
		t.Errorf("before 1.37, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(before, given); diff != "" {
		t.Errorf("the pod itself was changed:\n%s", diff)
	}
	if (Version{}).Asking(given) != given {
		t.Error("the newest version reads a pod as it is written")
	}
}
