package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// A condition that somebody above set stays; one that a kubelet sets goes when the lower pod has it no more.
func TestConditionsHaveOneOwner(t *testing.T) {
	t.Parallel()
	conditions := func(kinds ...corev1.PodConditionType) []corev1.PodCondition {
		var all []corev1.PodCondition
		for _, kind := range kinds {
			all = append(all, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue})
		}
		return all
	}
	cases := map[string]struct{ upper, lower, want []corev1.PodConditionType }{
		"readiness gate above":       {[]corev1.PodConditionType{"example.com/gate"}, nil, []corev1.PodConditionType{"example.com/gate"}},
		"disruption above":           {[]corev1.PodConditionType{corev1.DisruptionTarget}, nil, []corev1.PodConditionType{corev1.DisruptionTarget}},
		"disruption below":           {nil, []corev1.PodConditionType{corev1.DisruptionTarget}, []corev1.PodConditionType{corev1.DisruptionTarget}},
		"a resize that is over":      {[]corev1.PodConditionType{corev1.PodResizePending}, nil, nil},
		"a refusal that is over":     {[]corev1.PodConditionType{keys.LowerCreated}, nil, nil},
		"scheduled above, not below": {[]corev1.PodConditionType{corev1.PodScheduled}, nil, []corev1.PodConditionType{corev1.PodScheduled}},
		"scheduled twice": {[]corev1.PodConditionType{corev1.PodScheduled}, []corev1.PodConditionType{corev1.PodScheduled},
			[]corev1.PodConditionType{keys.LowerScheduled, corev1.PodScheduled}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upper := &corev1.PodStatus{Conditions: conditions(c.upper...)}
			got := UpperStatus(upper, &corev1.Pod{Status: corev1.PodStatus{Conditions: conditions(c.lower...)}})
			if diff := cmp.Diff(conditions(c.want...), got.Conditions); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The API server refuses a status that changes the QoS class, and with it everything else in that write.
func TestQualityOfServiceStays(t *testing.T) {
	t.Parallel()
	got := UpperStatus(&corev1.PodStatus{QOSClass: corev1.PodQOSBurstable}, &corev1.Pod{Status: corev1.PodStatus{QOSClass: corev1.PodQOSGuaranteed}})
	if got.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("QoS class %s", got.QOSClass)
	}
}
