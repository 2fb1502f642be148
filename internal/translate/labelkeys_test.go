package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLabelKeysAreResolvedOnce(t *testing.T) {
	t.Parallel()
	in := metav1.LabelSelectorRequirement{Key: "hash", Operator: metav1.LabelSelectorOpIn, Values: []string{"7"}}
	notIn := metav1.LabelSelectorRequirement{Key: "tenant", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"blue"}}
	selector := func(requirements ...metav1.LabelSelectorRequirement) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}, MatchExpressions: requirements}
	}
	for name, merged := range map[string]bool{"merged above": true, "not merged above": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", Labels: map[string]string{"hash": "7", "tenant": "blue"}}}
			given := selector()
			if merged {
				given = selector(in, notIn)
			}
			spreadGiven := selector()
			if merged {
				spreadGiven = selector(in)
			}
			term := corev1.PodAffinityTerm{
				LabelSelector: given, TopologyKey: "zone", MatchLabelKeys: []string{"hash", "absent"}, MismatchLabelKeys: []string{"tenant"},
			}
			pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution:  []corev1.PodAffinityTerm{term},
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: *term.DeepCopy()}},
			}}
			pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{LabelSelector: spreadGiven, MatchLabelKeys: []string{"hash"}}}
			before := pod.DeepCopy()
			lower, err := LowerPod(pod, Target{})
			if err != nil {
				t.Fatal(err)
			}
			want := corev1.PodAffinityTerm{LabelSelector: selector(in, notIn), TopologyKey: "zone"}
			anti := lower.Spec.Affinity.PodAntiAffinity
			if diff := cmp.Diff([]corev1.PodAffinityTerm{want}, anti.RequiredDuringSchedulingIgnoredDuringExecution); diff != "" {
				t.Errorf("required: %s", diff)
			}
			if diff := cmp.Diff(want, anti.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm); diff != "" {
				t.Errorf("preferred: %s", diff)
			}
			spread := []corev1.TopologySpreadConstraint{{LabelSelector: selector(in)}}
			if diff := cmp.Diff(spread, lower.Spec.TopologySpreadConstraints); diff != "" {
				t.Errorf("spread: %s", diff)
			}
			if diff := cmp.Diff(before, pod); diff != "" {
				t.Errorf("the upper pod has changed: %s", diff)
			}
		})
	}
}
