package rebalance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// refusing is a lab of two lower clusters, of which the first has the tighter nodes, so that every pod would go there first.
type refusing struct {
	lab          *lab.Lab
	upper, lower kubernetes.Interface
}

// TestRefusalsBecomeMoves has lower-1 refuse pods in every way that a cluster does. All of them run in lower-2 in the end, and the
// next replicas go there at once.
func TestRefusalsBecomeMoves(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	shape := func(cluster int, cpu string) lab.Shape {
		return lab.Shape{Cluster: cluster, Count: 3, Resources: resources(cpu)}
	}
	config := map[string]map[string]any{lab.PartRebalance: {"interval": "1s", "stuckAfter": "3s"}}
	if lab.Chaos() {
		config = nil // As it is installed.
	}
	l, err := lab.Start(t.Context(), lab.Options{
		Lower: 2, Nodes: 3, Parts: lab.Parts, Log: os.Stderr, Shapes: []lab.Shape{shape(1, "4"), shape(2, "64")}, Config: config,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	r := &refusing{lab: l, upper: kubernetes.NewForConfigOrDie(l.Upper()), lower: kubernetes.NewForConfigOrDie(l.Lower(1))}
	for _, c := range []struct {
		name   string
		refuse func(*testing.T, string)
		change func(*corev1.PodSpec)
		moved  bool // the first replicas came to lower-1; else the extender knew
	}{
		{"policy", r.policy, nil, true},
		{"webhook-down", r.webhook, nil, true},
		{"namespace-ending", r.namespaceEnding, nil, false},
		{"runtime-class", r.runtimeClass, func(s *corev1.PodSpec) { s.RuntimeClassName = new("kata") }, false},
		{"narrowed", r.narrowed, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.namespace(t, c.name)
			c.refuse(t, c.name)
			r.deployment(t, c.name, c.change)
			begin := time.Now()
			lab.Eventually(t, 3*time.Minute, func() error { return r.allOn(t, c.name, l.LowerName(2), 3) })
			t.Logf("all run in the other cluster after %s", time.Since(begin).Round(100*time.Millisecond))
			first := r.everOn(t, c.name, l.LowerName(1))
			if (first > 0) != c.moved {
				t.Errorf("%d pods were bound to the cluster that refuses them", first)
			}
			r.scale(t, c.name, 6)
			lab.Eventually(t, time.Minute, func() error { return r.allOn(t, c.name, l.LowerName(2), 6) })
			if again := r.everOn(t, c.name, l.LowerName(1)) - first; again > 0 {
				t.Errorf("%d of the next replicas went where the first were refused", again)
			}
		})
	}
}

func (r *refusing) namespace(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := r.upper.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// openBelow makes a lower namespace that our pods may go to.
func (r *refusing) openBelow(t *testing.T, name string, finalizers ...string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.OpenTo: "any"}, Finalizers: finalizers}}
	if _, err := r.lower.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// policy: a policy of the cluster wants something that the pods do not have.
func (r *refusing) policy(t *testing.T, namespace string) {
	fail := admissionregistrationv1.Fail
	policies := r.lower.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	_, err := policies.Create(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "cost-centre"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: podCreations(),
			}}},
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "there", Expression: fmt.Sprintf("request.namespace == %q", namespace)}},
			Validations: []admissionregistrationv1.Validation{{
				Expression: "'cost-centre' in object.metadata.labels", Message: "label cost-centre is missing",
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.lower.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(t.Context(),
		&admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "cost-centre"},
			Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: "cost-centre", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			},
		}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.openBelow(t, namespace)
	r.untilRefused(t, namespace, nil)
}

func podCreations() admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}
}

// webhook: a webhook of the cluster has no endpoint.
func (r *refusing) webhook(t *testing.T, namespace string) {
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	_, err := r.lower.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(),
		&admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "gone"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name: "gone.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, TimeoutSeconds: new(int32(2)),
				ClientConfig:      admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "nobody"}},
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
				Rules:             []admissionregistrationv1.RuleWithOperations{podCreations()},
			}},
		}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.openBelow(t, namespace)
	r.untilRefused(t, namespace, nil)
}

// namespaceEnding: the namespace hangs in its deletion.
func (r *refusing) namespaceEnding(t *testing.T, namespace string) {
	r.openBelow(t, namespace, "example.com/never")
	if err := r.lower.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = r.lower.CoreV1().Namespaces().Patch(context.Background(), namespace, types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}) // The lab ends anyway.
	})
}

// runtimeClass: the class is above and in lower-2.
func (r *refusing) runtimeClass(t *testing.T, _ string) {
	for _, c := range []kubernetes.Interface{r.upper, kubernetes.NewForConfigOrDie(r.lab.Lower(2))} {
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Handler: "kata"}
		if _, err := c.NodeV1().RuntimeClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// narrowed: a policy of the cluster adds a node selector that no node there has.
func (r *refusing) narrowed(t *testing.T, namespace string) {
	fail := admissionregistrationv1.Fail
	_, err := r.lower.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(t.Context(), &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy: &fail, ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: podCreations(),
			}}},
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "there", Expression: fmt.Sprintf("request.namespace == %q", namespace)}},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch,
				JSONPatch: &admissionregistrationv1.JSONPatch{
					Expression: `[JSONPatch{op: "add", path: "/spec/nodeSelector", value: {"tenant": "other"}}]`,
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.lower.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(t.Context(),
		&admissionregistrationv1.MutatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "tenants"},
			Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "tenants"},
		}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.openBelow(t, namespace)
	r.untilRefused(t, namespace, func(p *corev1.Pod) error {
		if p.Spec.NodeSelector["tenant"] == "" {
			return errors.New("the policy is not in force yet")
		}
		return nil
	})
}

// untilRefused waits until the cluster does to a pod what it is to do, nil is to refuse it.
func (r *refusing) untilRefused(t *testing.T, namespace string, check func(*corev1.Pod) error) {
	t.Helper()
	lab.Eventually(t, patience, func() error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{"app": "probe"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{container("1")}}}
		made, err := r.lower.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case check != nil && err == nil:
			return check(made)
		case check != nil:
			return err
		case err == nil:
			return errors.New("it is not refused yet")
		}
		return nil
	})
}

func (r *refusing) deployment(t *testing.T, name string, change func(*corev1.PodSpec)) {
	t.Helper()
	labels := map[string]string{"app": name}
	spec := corev1.PodSpec{Containers: []corev1.Container{container("1")}}
	if change != nil {
		change(&spec)
	}
	lab.Eventually(t, patience, func() error {
		_, err := r.upper.AppsV1().Deployments(name).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
			},
		}, metav1.CreateOptions{})
		return err
	})
}

func (r *refusing) scale(t *testing.T, name string, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := r.upper.AppsV1().Deployments(name).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// allOn says as an error that not all pods of a namespace run on the virtual node.
func (r *refusing) allOn(t *testing.T, namespace, node string, want int) error {
	t.Helper()
	pods, err := r.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	running, waiting := 0, ""
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodRunning && p.Spec.NodeName == node && p.DeletionTimestamp == nil {
			running++
			continue
		}
		waiting = fmt.Sprintf("; %s on %q is %s: %v", p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.Conditions)
	}
	if running != want || len(pods.Items) != want {
		return fmt.Errorf("%d of %d pods run on %s%s", running, want, node, waiting)
	}
	return nil
}

// everOn counts the pods of a namespace that the scheduler has bound to the virtual node so far.
func (r *refusing) everOn(t *testing.T, namespace, node string) int {
	t.Helper()
	events, err := r.upper.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=Scheduled"})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, event := range events.Items {
		if words := fmt.Sprintf("to %s", node); len(event.Message) >= len(words) && event.Message[len(event.Message)-len(words):] == words {
			count++
		}
	}
	return count
}
