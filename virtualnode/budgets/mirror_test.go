package budgets

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func TestMinAvailable(t *testing.T) {
	t.Parallel()
	status := func(desired, allowed int32) policyv1.PodDisruptionBudgetStatus {
		return policyv1.PodDisruptionBudgetStatus{DesiredHealthy: desired, DisruptionsAllowed: allowed}
	}
	for name, c := range map[string]struct {
		status policyv1.PodDisruptionBudgetStatus
		pods   count
		mine   bool
		want   int
	}{
		"all here":                                      {status(3, 1), count{here: 4, below: 4}, true, 3},
		"one evicted, no news of it yet":                {status(3, 1), count{here: 4, below: 3}, true, 3},
		"one evicted, the budget has not counted it":    {status(3, 1), count{here: 3, below: 3}, true, 3},
		"one evicted and counted":                       {status(3, 0), count{here: 3, below: 3}, true, 3},
		"replaced, ready below alone":                   {status(3, 0), count{here: 3, below: 4}, true, 4},
		"replaced, ready on both, not counted yet":      {status(3, 0), count{here: 4, below: 4}, true, 4},
		"half elsewhere":                                {status(3, 1), count{here: 2, elsewhere: 2, below: 2}, true, 1},
		"half elsewhere, not its turn":                  {status(3, 1), count{here: 2, elsewhere: 2, below: 2, most: 2}, false, 2},
		"one evicted elsewhere, not counted yet":        {status(3, 1), count{here: 2, elsewhere: 1, below: 2}, true, 2},
		"an eviction elsewhere is granted, not counted": {status(3, 0), count{here: 2, elsewhere: 2, below: 2}, true, 2},
		"too few are healthy":                           {status(3, 0), count{here: 1, elsewhere: 1, below: 1}, true, 2},
		"too few are healthy, not its turn":             {status(3, 0), count{here: 1, elsewhere: 1, below: 1, most: 1}, false, 2},
		"not its turn, one is not ready":                {status(3, 1), count{here: 2, elsewhere: 2, below: 2, most: 3}, false, 3},
		"nothing is demanded":                           {status(0, 4), count{here: 4, below: 4}, true, 0},
		"scaled up, the status is behind":               {status(1, 1), count{here: 2, below: 2}, true, 1},
		"more elsewhere than demanded":                  {status(2, 6), count{here: 2, elsewhere: 6, below: 2}, true, 0},
		"nobody is healthy":                             {status(2, 0), count{}, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := minAvailable(c.status, c.pods, c.mine); got != c.want {
				t.Errorf("minAvailable %d, want %d", got, c.want)
			}
		})
	}
}

func upperPod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{keys.LowerNode: "n"}},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	unready := func(p *corev1.Pod) { p.Status.Conditions = nil }
	pods := []*corev1.Pod{
		upperPod("a", "v"), upperPod("b", "v", unready), upperPod("c", "v", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		upperPod("d", "w"), upperPod("e", "w"), upperPod("leaving", "w"),
		upperPod("f", "real", func(p *corev1.Pod) { p.Annotations = nil }),
		upperPod("g", "", unready, func(p *corev1.Pod) { p.Annotations = nil }),
		upperPod("h", "x", unready, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
	}
	got, on := survey(pods, policyv1.PodDisruptionBudgetStatus{DisruptedPods: map[string]metav1.Time{"leaving": {}}}, "v")
	if want := (count{here: 1, elsewhere: 3, most: 2}); got != want {
		t.Errorf("count %+v, want %+v", got, want)
	}
	if diff := cmp.Diff([]string{"v", "w"}, on); diff != "" {
		t.Error(diff)
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	always := policyv1.AlwaysAllow
	upper := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "1", Labels: map[string]string{"a": "b"}},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &intstr.IntOrString{IntVal: 1}, UnhealthyPodEvictionPolicy: &always,
			Selector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"app": "web", keys.Enabled: "true"},
				MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: "tier", Operator: metav1.LabelSelectorOpExists}, {Key: keys.Enabled, Operator: metav1.LabelSelectorOpExists},
				},
			},
		},
	}
	before := upper.DeepCopy()
	got := mirror(upper, "x-ns", "me", "v", 3)
	least := intstr.FromInt32(3)
	want := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "x-ns", Name: got.Name, Labels: map[string]string{keys.Upper: "me", keys.VirtualNode: "v"},
			Annotations: map[string]string{keys.UpperUID: "1", keys.UpperNamespace: "ns", keys.UpperName: "web"},
		},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &least, UnhealthyPodEvictionPolicy: &always,
			Selector: &metav1.LabelSelector{
				MatchLabels:      map[string]string{"app": "web", keys.Upper: "me", keys.VirtualNode: "v"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpExists}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, upper); diff != "" {
		t.Error("the upper budget was changed:", diff)
	}
	names := map[string]bool{}
	for _, of := range [][4]string{
		{"ns", "web", "me", "v"}, {"ns", "web", "me", "w"}, {"ns", "web", "you", "v"}, {"other", "web", "me", "v"},
		{"ns", strings.Repeat("a", 253), "me", "v"}, {"ns", strings.Repeat("a", 252) + "b", "me", "v"}, {"ns", strings.Repeat("a.", 126) + "b", "me", "v"},
	} {
		name := mirrorName(of[0], of[1], of[2], of[3])
		if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 || names[name] {
			t.Errorf("%s: %v", name, faults)
		}
		names[name] = true
	}
}
