package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func TestMarked(t *testing.T) {
	t.Parallel()
	mark, other := corev1.ResourceList{keys.PodResource: {}}, corev1.ResourceList{"cpu": {}}
	plain := corev1.Container{Name: "plain", Resources: corev1.ResourceRequirements{Requests: other, Limits: other}}
	requests := corev1.Container{Name: "requests", Resources: corev1.ResourceRequirements{Requests: mark}}
	limits := corev1.Container{Name: "limits", Resources: corev1.ResourceRequirements{Limits: mark}}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"nothing":                    {corev1.PodSpec{}, false},
		"other resources":            {corev1.PodSpec{Containers: []corev1.Container{plain}, InitContainers: []corev1.Container{plain}}, false},
		"requests":                   {corev1.PodSpec{Containers: []corev1.Container{requests}}, true},
		"limits":                     {corev1.PodSpec{Containers: []corev1.Container{limits}}, true},
		"another container":          {corev1.PodSpec{Containers: []corev1.Container{plain, limits}}, true},
		"requests of an init":        {corev1.PodSpec{Containers: []corev1.Container{plain}, InitContainers: []corev1.Container{requests}}, true},
		"limits of another init":     {corev1.PodSpec{InitContainers: []corev1.Container{plain, limits}}, true},
		"the pod as a whole, and no": {corev1.PodSpec{Resources: &requests.Resources}, false},
	} {
		if got := Marked(&corev1.Pod{Spec: c.spec}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestOfDaemonSet(t *testing.T) {
	t.Parallel()
	yes := true
	for name, c := range map[string]struct {
		owners []metav1.OwnerReference
		want   bool
	}{
		"none":                        {nil, false},
		"Kubernetes' own":             {[]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Controller: &yes}}, true},
		"one that extends it":         {[]metav1.OwnerReference{{APIVersion: "apps.example.com/v1", Kind: "DaemonSet", Controller: &yes}}, true},
		"another controller":          {[]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Controller: &yes}}, false},
		"an owner, no controller":     {[]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet"}}, false},
		"the second owner is the one": {[]metav1.OwnerReference{{Kind: "Set"}, {APIVersion: "apps/v1", Kind: "DaemonSet", Controller: &yes}}, true},
	} {
		if got := OfDaemonSet(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: c.owners}}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
