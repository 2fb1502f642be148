package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

type (
	term        = corev1.NodeSelectorTerm
	requirement = corev1.NodeSelectorRequirement
)

func in(key string, values ...string) requirement {
	return requirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

func all(requirements ...requirement) term { return term{MatchExpressions: requirements} }

var (
	virtual = seal.Virtual
	nothing = all(seal.Virtual, seal.Real) // A term that no node meets.
)

func podWith(selector map[string]string, terms ...term) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: selector}}
	if terms != nil {
		seal.Constraints{NodeSelector: selector, Required: want(terms...)}.Write(pod)
	}
	return pod
}

func TestSealAndUnseal(t *testing.T) {
	onA, onB := in(keys.Cluster, "a"), in(keys.Cluster, "b")
	ssd, gpu := in("disk", "ssd"), in("gpu", "a100")
	cases := map[string]struct {
		pod   *corev1.Pod
		above []term
		belowA,
		belowC *corev1.NodeSelector // On a virtual node of cluster a, and of cluster c; nil: any node.
	}{
		"no constraints":      {podWith(nil), []term{all(virtual)}, nil, nil},
		"lower keys go below": {podWith(nil, all(ssd)), []term{all(virtual)}, want(all(ssd)), want(all(ssd))},
		"upper keys stay above": {
			podWith(nil, all(onA, ssd), all(onB, gpu)), []term{all(onA, virtual), all(onB, virtual)},
			want(all(ssd)), want(nothing),
		},
		"a term of upper keys alone asks nothing below": {
			podWith(nil, all(onA), all(ssd)), []term{all(onA, virtual), all(virtual)}, nil, want(all(ssd)),
		},
		"equal upper terms once":       {podWith(nil, all(ssd), all(gpu)), []term{all(virtual)}, want(all(ssd), all(gpu)), want(all(ssd), all(gpu))},
		"a blank term matches nothing": {podWith(nil, term{}), []term{nothing}, want(nothing), want(nothing)},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			sealed := only(t, test.pod)
			if diff := cmp.Diff(want(test.above...), seal.Of(sealed).Required); diff != "" {
				t.Errorf("above:\n%s", diff)
			}
			whole, err := seal.Unseal(sealed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(seal.Of(test.pod), whole); diff != "" {
				t.Errorf("Unseal(Seal(pod)):\n%s", diff)
			}
			for cluster, required := range map[string]*corev1.NodeSelector{"a": test.belowA, "c": test.belowC} {
				lower, err := LowerPod(sealed, Target{VirtualNode: cluster, Labels: map[string]string{keys.Cluster: cluster}})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(required, seal.Of(lower).Required); diff != "" {
					t.Errorf("below on %s:\n%s", cluster, diff)
				}
			}
		})
	}
}

func want(terms ...term) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: terms}
}

// only seals a pod under the policy of that name.
func only(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	sealed, err := seal.Of(pod).Seal(pod, keys.PolicyOnly)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealSelector(t *testing.T) {
	sealed := only(t, podWith(map[string]string{"disk": "ssd", keys.Cluster: "a"}))
	if diff := cmp.Diff(map[string]string{keys.Cluster: "a"}, sealed.Spec.NodeSelector); diff != "" {
		t.Errorf("above:\n%s", diff)
	}
	lower, err := LowerPod(sealed, Target{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"disk": "ssd"}, lower.Spec.NodeSelector); diff != "" {
		t.Errorf("below:\n%s", diff)
	}
}

func TestLowerPod(t *testing.T) {
	one := resource.MustParse("1")
	mount := corev1.VolumeMount{Name: tokenVolume + "x", MountPath: "/var/run/secrets"}
	upper := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "shop", UID: "u1", Finalizers: []string{"f"}, OwnerReferences: []metav1.OwnerReference{{Name: "rs"}},
			Labels:      map[string]string{"app": "web", keys.Enabled: "true"},
			Annotations: map[string]string{"note": "x", keys.Sealed: "{}", corev1.LastAppliedConfigAnnotation: "{}"},
		},
		Spec: corev1.PodSpec{
			NodeName: "a", SchedulerName: "s", PriorityClassName: "high", Priority: new(int32), ServiceAccountName: "web",
			Tolerations: []corev1.Toleration{{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists}},
			Volumes:     []corev1.Volume{{Name: tokenVolume + "x"}, {Name: "data"}},
			Containers: []corev1.Container{{
				Name: "c", VolumeMounts: []corev1.VolumeMount{mount, {Name: "data"}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": one, keys.PodResource: {}}, Limits: corev1.ResourceList{keys.PodResource: {}},
				},
			}},
		},
	}
	expected := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "shop",
			Labels:      map[string]string{"app": "web", keys.Upper: "id", keys.VirtualNode: "a"},
			Annotations: map[string]string{"note": "x", keys.UpperUID: "u1", keys.UpperNamespace: "shop", keys.UpperName: "web"},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(bool),
			Tolerations:                  upper.Spec.Tolerations,
			Volumes:                      []corev1.Volume{{Name: "data"}},
			Containers: []corev1.Container{{
				Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "data"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": one}, Limits: corev1.ResourceList{}},
			}},
		},
	}
	before := upper.DeepCopy()
	lower, err := LowerPod(upper, Target{VirtualNode: "a", Identity: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expected, lower); diff != "" {
		t.Errorf("LowerPod:\n%s", diff)
	}
	if diff := cmp.Diff(before, upper); diff != "" {
		t.Errorf("LowerPod changed its argument:\n%s", diff)
	}
	upper.Annotations[keys.Sealed] = "{"
	if _, err := LowerPod(upper, Target{}); err == nil {
		t.Error("a broken sealed annotation was accepted")
	}
}

func TestUpperStatusKeepsWhatIsTheUppersOwn(t *testing.T) {
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
	lower := &corev1.Pod{Status: corev1.PodStatus{
		Phase: corev1.PodPending, PodIP: "10.0.0.1", HostIP: "10.1.0.1",
		Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}},
	}}
	got := UpperStatus(&corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{scheduled}}}, lower, false)
	expected := corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: keys.LowerScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}, scheduled,
	}}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Error(diff)
	}
}
