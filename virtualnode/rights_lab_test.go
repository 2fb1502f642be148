package virtualnode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Without one right, on either side, the Node or the pod says so, naming it, and pods that do not need it run.
func TestRightsMissing(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, Nodes: 1, UpperNodes: 1})
	w := newWorld(t, l)
	w.patience = time.Minute // What is refused is tried three times a minute.
	w.secret("password", "0", "")
	for name, c := range map[string]struct {
		client        kubernetes.Interface
		role, objects string
		says          string
		reason        keys.Reason
	}{
		"below": {w.lower(1), "tessera", "tessera-objects", "The lower cluster", keys.RefusedBelow},
		"above": {w.upper, "tessera-virtualnode", "tessera-virtualnode-objects", "The upper cluster", keys.ObjectsUnread},
	} {
		give := w.take(c.client, c.role, "services", "networkpolicies")
		giveObjects := w.take(c.client, c.objects, "secrets", "configmaps")
		process := l.Process(lab.PartVirtualNode)
		process.Kill()
		if err := process.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.eventually(func() error {
			node, err := w.upper.CoreV1().Nodes().Get(t.Context(), l.LowerName(1), metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, kind := range []corev1.NodeConditionType{keys.ServicesMirrored, keys.PoliciesMirrored} {
				if found := nodeCondition(node, kind); found.Reason != "Forbidden" || !strings.HasPrefix(found.Message, c.says) {
					return fmt.Errorf("without the rights %s the Node says %+v", name, found)
				}
			}
			return nil
		})
		w.create(w.pod(name, 1))
		w.create(w.pod("needs-"+name, 1, func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{
				SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "password"}},
			}}
		}))
		w.becomes(w.upper, name, "Running", running)
		w.becomes(w.upper, "needs-"+name, "told of the right", func(p *corev1.Pod) bool {
			told := conditionOf(p.Status.Conditions, keys.LowerPlaced)
			return told.Reason == string(c.reason) && strings.Contains(told.Message, "secrets")
		})
		give()
		giveObjects()
		w.becomes(w.upper, "needs-"+name, "Running", running)
	}
}

// take takes the rules of a ClusterRole away that name one of the resources.
func (w *world) take(client kubernetes.Interface, name string, resources ...string) (give func()) {
	w.Helper()
	roles := client.RbacV1().ClusterRoles()
	role, err := roles.Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	whole := role.DeepCopy().Rules
	put := func(rules []rbacv1.PolicyRule) {
		w.Helper()
		role.Rules = rules
		if role, err = roles.Update(w.Context(), role, metav1.UpdateOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	put(slices.DeleteFunc(slices.Clone(whole), func(rule rbacv1.PolicyRule) bool {
		return slices.ContainsFunc(resources, func(r string) bool { return slices.Contains(rule.Resources, r) })
	}))
	return func() { w.Helper(); put(whole) }
}
