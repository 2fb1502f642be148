package virtualnode_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// naming has a pod name a ConfigMap and a Secret in its environment, another Secret in a volume, and one to pull its image with.
func naming(configMap, secret, mounted, pull string) func(*corev1.Pod) {
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	return func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local(configMap)}}}
		main.Env = []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(secret), Key: "x"},
		}}}
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "mounted", MountPath: "/mounted"})
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "mounted", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: mounted},
		}})
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{local(pull)}
	}
}

func (w *world) configMap(name, x string) *corev1.ConfigMap {
	w.Helper()
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name, Labels: map[string]string{"app.kubernetes.io/instance": "shop"}},
		Data:       map[string]string{"x": x}, BinaryData: map[string][]byte{"binary": {0, 255}},
	}
	created, err := w.upper.CoreV1().ConfigMaps(w.ns).Create(w.Context(), object, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

func (w *world) secret(name, x string, kind corev1.SecretType) *corev1.Secret {
	w.Helper()
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}, Type: kind, Data: map[string][]byte{"x": []byte(x)},
	}
	if kind == corev1.SecretTypeDockerConfigJson {
		object.Data = map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)}
	}
	created, err := w.upper.CoreV1().Secrets(w.ns).Create(w.Context(), object, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

// secretBelow waits until a Secret of lower-1 has that content; "" is none.
func (w *world) secretBelow(name, x string) *corev1.Secret {
	w.Helper()
	var found *corev1.Secret
	w.eventually(func() (err error) {
		found, err = w.lower(1).CoreV1().Secrets(w.ns).Get(w.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && x == "":
			return nil
		case err != nil:
			return err
		case string(found.Data["x"]) != x:
			return fmt.Errorf("Secret %s is %q below, want %q", name, found.Data["x"], x)
		}
		return nil
	})
	return found
}

// What a pod names is below before the pod is, follows what is above, and goes with the last pod that needs it.
func TestObjectsComeAlong(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.configMap("config", "1")
	password := w.secret("password", "old", "")
	w.secret("mounted", "file", "")
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	w.secret("unused", "nobody names it", "")
	w.create(w.pod("web", 1, naming("config", "password", "mounted", "pull")))
	w.create(w.pod("web2", 1, naming("config", "password", "late", "pull")))
	w.becomes(w.upper, "web", "Running", running)
	pod := w.get(w.lower(1), "web")
	below, err := w.lower(1).CoreV1().ConfigMaps(w.ns).Get(t.Context(), "config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if below.Data["x"] != "1" || len(below.BinaryData["binary"]) != 2 || below.Labels["app.kubernetes.io/instance"] != "" ||
		pod.CreationTimestamp.Before(&below.CreationTimestamp) {
		t.Errorf("the ConfigMap below is %+v, made at %s; the pod at %s", below, below.CreationTimestamp, pod.CreationTimestamp)
	}
	if pull := w.secretBelow("pull", ""); pull.Type != corev1.SecretTypeDockerConfigJson {
		t.Errorf("the Secret to pull with is of type %s", pull.Type)
	}
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Get(t.Context(), "unused", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what nobody names is below: %v", err)
	}

	password.Data["x"] = []byte("new")
	begin := time.Now()
	if _, err := w.upper.CoreV1().Secrets(w.ns).Update(t.Context(), password, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.secretBelow("password", "new")
	t.Logf("a change was below after %s", time.Since(begin).Round(time.Millisecond))
	w.secret("late", "came later", "")
	w.secretBelow("late", "came later")
	if err := w.lower(1).CoreV1().Secrets(w.ns).Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.secretBelow("late", "came later")

	process := w.lab.Process(lab.PartVirtualNode)
	process.Kill()
	for _, name := range []string{"web", "web2"} {
		if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"password", "mounted", "pull"} {
		w.secretBelow(name, "")
	}
}

// A name that is taken below is a conflict of the pod's, told and to be moved; the token of an account stays above, and the pod is
// told.
func TestObjectsThatDoNotCome(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("first", 1)) // It makes the namespace.
	w.becomes(w.upper, "first", "Running", running)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "taken"}, Data: map[string][]byte{"x": []byte("theirs")}}
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.configMap("config", "1")
	w.secret("taken", "ours", "")
	w.secret("mounted", "1", "")
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	w.create(w.pod("web", 1, naming("config", "taken", "mounted", "pull")))
	w.becomes(w.upper, "web", "told of the conflict", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.NameConflict) && strings.Contains(c.Message, "Secret taken")
	})
	if err := w.lower(1).CoreV1().Secrets(w.ns).Delete(t.Context(), "taken", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.upper, "web", "Running", running)
	w.secretBelow("taken", "ours")

	account := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.ns, Name: "account", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
	if _, err := w.upper.CoreV1().Secrets(w.ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("reader", 1, naming("config", "account", "mounted", "pull")))
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=reader,reason=NotBrought"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("no event tells that the token of an account is not brought along")
		}
		return err
	})
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Get(t.Context(), "account", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the token of an account is below: %v", err)
	}
}

// What a lower cluster refuses of what a pod names keeps that pod waiting, with its words, and the Node says so to the extender: quota,
// its policies, a webhook that is down. What is refused of a Service is told on it.
func TestObjectsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	w.patience = time.Minute // What is refused is tried three times a minute.
	lower := w.lower(1)
	if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(w.ns), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lift := w.refuseSecrets(lower)
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	refused := map[string]struct {
		reason keys.Reason
		words  string
	}{
		"counted": {keys.Quota, "exceeded quota"}, "denied": {keys.RefusedBelow, "not in this cluster"}, "hooked": {keys.RefusedBelow, "failed calling webhook"},
	}
	w.configMap("config", "1")
	for name := range refused {
		w.secret(name, "0", "")
		w.create(w.pod(name, 1, naming("config", name, name, name)))
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "denied"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := w.upper.CoreV1().Services(w.ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range refused {
		w.becomes(w.upper, name, "told of the refusal", func(p *corev1.Pod) bool {
			c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
			return c.Reason == string(want.reason) && strings.Contains(c.Message, "Secret") && strings.Contains(c.Message, want.words)
		})
	}
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(),
			metav1.ListOptions{FieldSelector: "involvedObject.kind=Service,involvedObject.name=denied,reason=NotBrought"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("no event tells that the Service is refused")
		}
		return err
	})
	w.eventually(func() error { // The next ones of their kind go elsewhere.
		node, err := w.upper.CoreV1().Nodes().Get(t.Context(), w.lab.LowerName(1), metav1.GetOptions{})
		if err == nil && strings.Count(node.Annotations[keys.Refused], w.ns) != 2 {
			err = fmt.Errorf("the Node says of pods that are refused: %q", node.Annotations[keys.Refused])
		}
		return err
	})
	lift()
	for name := range refused {
		w.becomes(w.upper, name, "Running", running)
	}
}

// refuseSecrets has a lower cluster's quota refuse Secrets of the test's namespace, its policy those that are called denied, and a
// webhook that is down those that are called hooked; and its policy Services.
func (w *world) refuseSecrets(lower kubernetes.Interface) (lift func()) {
	w.Helper()
	ctx, hooks, quotas := w.Context(), lower.AdmissionregistrationV1(), lower.CoreV1().ResourceQuotas(w.ns)
	created := func(_ any, err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	created(quotas.Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": resource.MustParse("0")}},
	}, metav1.CreateOptions{}))
	here := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.ns}}
	creating := func(resource string) admissionv1.RuleWithOperations {
		return admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
		}
	}
	nowhere, none := "https://127.0.0.1:1/", admissionv1.SideEffectClassNone
	created(hooks.ValidatingWebhookConfigurations().Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "secrets.test.example.com", ClientConfig: admissionv1.WebhookClientConfig{URL: &nowhere}, NamespaceSelector: here,
			Rules:           []admissionv1.RuleWithOperations{creating("secrets")},
			MatchConditions: []admissionv1.MatchCondition{{Name: "hooked", Expression: "object.metadata.name == 'hooked'"}},
			SideEffects:     &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{}))
	created(hooks.ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{NamespaceSelector: here, ResourceRules: []admissionv1.NamedRuleWithOperations{
				{RuleWithOperations: creating("secrets")}, {RuleWithOperations: creating("services")},
			}},
			Validations: []admissionv1.Validation{{Expression: "object.metadata.name != 'denied'", Message: "not in this cluster"}},
		},
	}, metav1.CreateOptions{}))
	created(hooks.ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: w.ns, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}, metav1.CreateOptions{}))
	lift = sync.OnceFunc(func() {
		ctx := context.Background()
		_ = quotas.Delete(ctx, "q", metav1.DeleteOptions{}) // The lab ends anyway, and pods that go on waiting tell of it.
		_ = hooks.ValidatingAdmissionPolicyBindings().Delete(ctx, w.ns, metav1.DeleteOptions{})
		_ = hooks.ValidatingAdmissionPolicies().Delete(ctx, w.ns, metav1.DeleteOptions{})
		_ = hooks.ValidatingWebhookConfigurations().Delete(ctx, w.ns, metav1.DeleteOptions{})
	})
	w.Cleanup(lift)
	for name, words := range map[string]string{"counted": "exceeded quota", "denied": "not in this cluster", "hooked": "failed calling webhook"} {
		w.eventually(func() error {
			probe := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}
			_, err := lower.CoreV1().Secrets(w.ns).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil || !strings.Contains(err.Error(), words) {
				return fmt.Errorf("Secret %s is not refused yet: %w", name, err)
			}
			return nil
		})
	}
	return lift
}

// An object as large as can be comes, without the annotations that stay above; one that changes all the time is written a few times a
// second, the last content at the end.
func TestObjectsLargeAndBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	for _, name := range []string{"password", "mounted"} {
		w.secret(name, "0", "")
	}
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	large := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "large", Annotations: map[string]string{"example.com/large": strings.Repeat("a", 200<<10)}},
		Data:       map[string]string{"x": strings.Repeat("x", 1<<20-1<<10)},
	}
	if _, err := w.upper.CoreV1().ConfigMaps(w.ns).Create(t.Context(), large, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("web", 1, naming("large", "password", "mounted", "pull")))
	w.becomes(w.upper, "web", "Running", running)
	below, err := lower.CoreV1().ConfigMaps(w.ns).Get(t.Context(), "large", metav1.GetOptions{})
	if err != nil || below.Data["x"] != large.Data["x"] || below.Annotations["example.com/large"] != "" {
		t.Errorf("the large ConfigMap below has %d bytes and %d annotations: %v", len(below.Data["x"]), len(below.Annotations), err)
	}

	watcher, err := lower.CoreV1().Secrets(w.ns).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=password"})
	writes := seen[*corev1.Secret](w, watcher, err)
	const changes = 150
	begin := time.Now()
	for i := 1; i <= changes; i++ { // 50 a second.
		patch := fmt.Appendf(nil, `{"stringData":{"x":"%d"}}`, i)
		if _, err := w.upper.CoreV1().Secrets(w.ns).Patch(t.Context(), "password", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(t, time.Until(begin.Add(time.Duration(i)*20*time.Millisecond)))
	}
	took := time.Since(begin)
	w.secretBelow("password", fmt.Sprint(changes))
	if n, most := len(writes()), int(took/(100*time.Millisecond))+5; n > most { // They are gathered for a tenth of a second.
		t.Errorf("%d changes in %s were written %d times below, want %d at the most", changes, took, n, most)
	}
}
