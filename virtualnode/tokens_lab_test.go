package virtualnode_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// account makes a ServiceAccount above, and has a pod use it.
func (w *world) account(name string) func(*corev1.Pod) {
	w.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}}
	if _, err := w.upper.CoreV1().ServiceAccounts(w.ns).Create(w.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		w.Fatal(err)
	}
	return func(p *corev1.Pod) { p.Spec.ServiceAccountName = name }
}

func tokenOf(token string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, keys.Token, token) }
}

// tokenBelow waits until the Secret of a pod below has a token other than that one.
func (w *world) tokenBelow(upper *corev1.Pod, other string) string {
	w.Helper()
	var token string
	w.eventually(func() error {
		secret, err := w.lower(1).CoreV1().Secrets(w.ns).Get(w.Context(), translate.TokenSecret(upper), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if token = string(secret.Data["token-0"]); token == "" || token == other {
			return fmt.Errorf("the token below is the old one, or none: %d bytes", len(token))
		}
		return nil
	})
	return token
}

// who asks the upper API server whose token that is.
func (w *world) who(token string) authenticationv1.TokenReviewStatus {
	w.Helper()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	answer, err := w.upper.AuthenticationV1().TokenReviews().Create(w.Context(), review, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return answer.Status
}

// A pod of a named account has a token of that account above, bound to it, with the upper cluster's CA; both follow, and end with it.
func TestUpperTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	web := w.create(w.pod("web", 1, w.account("web")))
	w.becomes(w.upper, "web", "Running", running)
	token := w.tokenBelow(web, "")
	who := w.who(token)
	if !who.Authenticated || who.User.Username != "system:serviceaccount:"+w.ns+":web" || who.User.Extra["authentication.kubernetes.io/pod-uid"][0] != string(web.UID) {
		t.Errorf("the token is that of %+v", who)
	}
	ours, err := w.upper.CoreV1().ConfigMaps(w.ns).Get(t.Context(), translate.RootCA, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		below, err := w.lower(1).CoreV1().ConfigMaps(w.ns).Get(t.Context(), translate.RootCACopy, metav1.GetOptions{})
		if err == nil && below.Data["ca.crt"] != ours.Data["ca.crt"] {
			err = errors.New("the CA beside the token is another one")
		}
		return err
	})
	spec := w.get(w.lower(1), "web").Spec
	if main := spec.Containers[0]; main.Env[0].Name != "KUBERNETES_SERVICE_HOST" || len(main.VolumeMounts) != 1 || spec.ServiceAccountName != "default" {
		t.Errorf("below is %+v", spec)
	}
	token = w.tokenBelow(web, token) // It is made anew.
	if who := w.who(token); !who.Authenticated {
		t.Errorf("the second token is worth nothing: %+v", who)
	}

	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.upper, "web")
	w.secretBelow(translate.TokenSecret(web), "")
	w.eventually(func() error {
		_, err := w.lower(1).CoreV1().ConfigMaps(w.ns).Get(t.Context(), translate.RootCACopy, metav1.GetOptions{})
		if err == nil {
			return errors.New("the CA is still below")
		}
		return ignoreNotFound(err)
	})
	w.eventually(func() error {
		if who := w.who(token); who.Authenticated {
			return errors.New("the token outlives its pod")
		}
		return nil
	})
}

// Who gets none: the account of all pods, pods that say so, clusters that are not trusted. Who asks for one there is not allowed.
func TestNoTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	account := w.account("web")
	plain := w.create(w.pod("plain", 1))
	none := w.create(w.pod("none", 1, account, tokenOf("none")))
	w.create(w.pod("elsewhere", 2, account))
	w.create(w.pod("asks", 2, account, tokenOf("upper")))
	for _, name := range []string{"plain", "none", "elsewhere"} {
		w.becomes(w.upper, name, "Running", running)
	}
	for _, pod := range []*corev1.Pod{plain, none} {
		w.secretBelow(translate.TokenSecret(pod), "")
	}
	if spec := w.get(w.lower(2), "elsewhere").Spec; len(spec.Volumes) > 0 {
		t.Errorf("below is %+v", spec)
	}
	w.becomes(w.upper, "asks", "told that it is not allowed", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.NotAllowed) && strings.Contains(c.Message, "allow: [upperToken]")
	})
}

// The account of the same name below, where that is allowed: its token is mounted there.
func TestLowerAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("first", 1)) // It makes the namespace.
	w.becomes(w.upper, "first", "Running", running)
	w.create(w.pod("web", 1, w.account("web"), tokenOf("lower")))
	w.becomes(w.upper, "web", "told that there is no such account", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.RefusedBelow) && strings.Contains(c.Message, "service account")
	})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "web"}}
	if _, err := w.lower(1).CoreV1().ServiceAccounts(w.ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.patience = 3 * patience // It is refused, and tried a few times a minute.
	w.becomes(w.upper, "web", "Running", running)
	spec := w.get(w.lower(1), "web").Spec
	if spec.ServiceAccountName != "web" || len(spec.Volumes) != 1 || spec.Volumes[0].Projected == nil {
		t.Errorf("below is %+v", spec)
	}
}

// The policy of the installation: tokens only for pods that are there, for a day at most, in namespaces that opted in. A pod that opted
// in by itself gets none, and is told.
func TestTokenPolicy(t *testing.T) {
	t.Parallel()
	l := shared.Get(t)
	w := newWorld(t, l)
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(l.Dir(), "parts", "virtualnode.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	us := client(t, config)
	web := w.create(w.pod("web", 1, w.account("web")))
	w.becomes(w.upper, "web", "Running", running)
	ask := func(namespace, account string, seconds int64, bound *authenticationv1.BoundObjectReference) error {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, BoundObjectRef: bound}}
		_, err := us.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, request, metav1.CreateOptions{})
		return err
	}
	bound := &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: web.UID}
	if err := ask(w.ns, "web", 3600, bound); err != nil {
		t.Errorf("what is allowed is not: %v", err)
	}
	for what, err := range map[string]error{
		"bound to a pod": ask(w.ns, "web", 3600, nil), "for a day": ask(w.ns, "web", 25*3600, bound),
		"tessera.sh/enabled=true": ask("default", "default", 3600, bound),
	} {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, namespace := range []string{"kube-system", "tessera-system"} {
		if err := ask(namespace, "default", 3600, bound); !apierrors.IsForbidden(err) {
			t.Errorf("in %s: %v", namespace, err)
		}
	}

	ns, err := w.upper.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "single-", Labels: map[string]string{keys.Enabled: "true"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.ns = ns.Name
	account := w.account("web")
	w.eventually(func() error {
		_, err := w.upper.CoreV1().ServiceAccounts(w.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	w.create(w.pod("single", 1, account, gated, func(p *corev1.Pod) { p.Labels[keys.Enabled] = "true" }))
	patch(w, w.upper, "namespaces", w.ns, `{"metadata":{"labels":{"`+keys.Enabled+`":null}}}`)
	w.ungate("single")
	w.becomes(w.upper, "single", "told that there is no token", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.TokenRefused) && strings.Contains(c.Message, "tessera.sh/enabled=true")
	})
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
