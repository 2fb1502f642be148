package virtualnode_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod below asks the upper API server with its own rights and no more, also with the token that takes the first one's place.
func TestRealTokens(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	reader := w.account("reader")
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.ns, Name: "reader"}},
	}
	if _, err := w.upper.RbacV1().Roles(w.ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.upper.RbacV1().RoleBindings(w.ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, secrets := "/api/v1/namespaces/"+w.ns+"/pods", "/api/v1/namespaces/"+w.ns+"/secrets"
	w.create(w.pod("client", 1, never, reader, doing(
		"ask=/note:"+pods, "ask=/note:"+secrets,
		"changes=/var/run/secrets/kubernetes.io/serviceaccount/token",
		"ask=/note:"+pods, "ask=/note:/api/v1/pods", "report=/note", "exit=0",
	)))
	w.patience *= 4 // A kubelet looks at its volumes once a minute.
	pod := w.becomes(w.upper, "client", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if end := ended(pod); end == nil || end.Message != "200\n403\n200\n403\n" {
		t.Errorf("it ended as %+v", end)
	}
}
