package translate

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// accountPod is a pod as upper admission hands it on: with the volume that every pod has, and one of its own for another audience.
func accountPod(account, token string) *corev1.Pod {
	source := func(path, audience string, seconds int64) corev1.VolumeProjection {
		return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Path: path, Audience: audience, ExpirationSeconds: &seconds,
		}}
	}
	root := corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: RootCA}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
	}}
	volume := func(name string, sources ...corev1.VolumeProjection) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, DeprecatedServiceAccount: account,
			Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: tokenVolume + "x"}, {Name: "vault"}}}},
			Volumes: []corev1.Volume{
				volume(tokenVolume+"x", source("token", "", injectedLife), root),
				volume("vault", source("token", "vault", 7200), source("again", "vault", 7200), source("long", "vault", 1e6), source("short", "vault", 1)),
			},
		},
	}
	if token != "" {
		pod.Annotations[keys.Token] = token
	}
	return pod
}

var trusted = Rules{Allow: []Power{UpperToken, LowerAccount}, UpperAPI: "https://192.0.2.1"}

// Whose token a pod gets, by its account, what it asks for, and what the virtual node may be trusted with.
func TestTokens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		account, token string
		rules          Rules
		want           Token
		power          Power
		bad            bool
	}{
		"default":             {"default", "", trusted, TokenNone, "", false},
		"no account":          {"", "", trusted, TokenNone, "", false},
		"named":               {"web", "", trusted, TokenUpper, "", false},
		"named, no trust":     {"web", "", Rules{}, TokenNone, "", false},
		"default, upper":      {"default", "upper", trusted, TokenUpper, "", false},
		"named, none":         {"web", "none", trusted, TokenNone, "", false},
		"named, lower":        {"web", "lower", trusted, TokenLower, "", false},
		"upper, no trust":     {"web", "upper", Rules{Allow: []Power{LowerAccount}}, "", UpperToken, false},
		"lower, not allowed":  {"web", "lower", Rules{Allow: []Power{UpperToken}}, "", LowerAccount, false},
		"a word of their own": {"web", "mine", trusted, "", "", true},
		"empty":               {"web", "", trusted, TokenUpper, "", false},
	} {
		pod := accountPod(c.account, c.token)
		target := Target{VirtualNode: "v", Identity: "us", Rules: c.rules}
		lower, err := LowerPod(pod, target)
		refused := (*NotAllowed)(nil)
		switch {
		case c.power != "":
			if !errors.As(err, &refused) || refused.Power != c.power {
				t.Errorf("%s: %v", name, err)
			}
			continue
		case c.bad:
			if err == nil || errors.As(err, &refused) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := TokenNone
		switch {
		case len(target.AccountTokens(pod)) > 0:
			got = TokenUpper
		case lower.Spec.ServiceAccountName != "":
			got = TokenLower
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The volumes of a pod with tokens of its upper account are filled from its Secret, each token once, and its clients are led to the
// upper API server.
func TestUpperTokens(t *testing.T) {
	t.Parallel()
	pod, target := accountPod("web", ""), Target{VirtualNode: "v", Identity: "us", Rules: trusted}
	lower, err := LowerPod(pod, target)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]AccountToken{
		{"token-0", "", defaultLife}, {"token-1", "vault", 7200}, {"token-2", "vault", longestLife}, {"token-3", "vault", shortestLife},
	}, target.AccountTokens(pod)); diff != "" {
		t.Error(diff)
	}
	type file struct{ volume, secret, configMap, key, path string }
	var files []file
	for _, volume := range lower.Spec.Volumes {
		for _, source := range volume.Projected.Sources {
			if source.Secret != nil {
				files = append(files, file{volume.Name, source.Secret.Name, "", source.Secret.Items[0].Key, source.Secret.Items[0].Path})
			}
			if source.ConfigMap != nil {
				files = append(files, file{volume.Name, "", source.ConfigMap.Name, source.ConfigMap.Items[0].Key, source.ConfigMap.Items[0].Path})
			}
		}
	}
	secret := "tessera-account-u1"
	if diff := cmp.Diff([]file{
		{tokenVolume + "x", secret, "", "token-0", "token"}, {tokenVolume + "x", "", RootCACopy, "ca.crt", "ca.crt"},
		{"vault", secret, "", "token-1", "token"}, {"vault", secret, "", "token-1", "again"}, {"vault", secret, "", "token-2", "long"},
		{"vault", secret, "", "token-3", "short"},
	}, files, cmp.AllowUnexported(file{})); diff != "" {
		t.Error(diff)
	}
	spec := &lower.Spec
	if spec.ServiceAccountName != "" || *spec.AutomountServiceAccountToken || len(tokenSources(spec)) > 0 || len(spec.Containers[0].VolumeMounts) != 2 {
		t.Errorf("below is %+v", spec)
	}
	if diff := cmp.Diff([]corev1.EnvVar{
		{Name: "KUBERNETES_SERVICE_HOST", Value: "192.0.2.1"}, {Name: "KUBERNETES_SERVICE_PORT", Value: "443"},
		{Name: "KUBERNETES_SERVICE_PORT_HTTPS", Value: "443"},
	}, spec.Containers[0].Env); diff != "" {
		t.Error(diff)
	}
	if len(spec.HostAliases) != 1 || spec.HostAliases[0].IP != "192.0.2.1" {
		t.Errorf("host aliases are %+v", spec.HostAliases)
	}
	if diff := cmp.Diff([]Reference{{KindConfigMap, RootCACopy}}, target.References(pod)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Reference{{KindConfigMap, RootCACopy}, {KindSecret, secret}}, References(spec)); diff != "" {
		t.Error(diff)
	}
	again, err := LowerPod(pod, target)
	if diff := cmp.Diff(lower, again); diff != "" || err != nil {
		t.Errorf("it becomes another pod the second time: %v %s", err, diff)
	}
}

// Elsewhere the names of the API server are left alone: its port is another one, or its address is a name.
func TestUpperAPI(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ host, port string }{
		"https://192.0.2.1:6443": {"192.0.2.1", "6443"}, "https://api.example.org": {"api.example.org", "443"},
		"https://[2001:db8::1]:6443/": {"2001:db8::1", "6443"},
		"http://192.0.2.1":            {}, "192.0.2.1:6443": {}, "https://": {}, "https://a/b": {}, "": {},
	} {
		host, port, err := ParseUpperAPI(text)
		if host != want.host || port != want.port || (err == nil) != (want.host != "") {
			t.Errorf("%q: %s %s %v", text, host, port, err)
		}
		rules := trusted
		rules.UpperAPI = text
		pod := accountPod("web", "")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "KUBERNETES_SERVICE_HOST", Value: "mine"}}
		lower, err := LowerPod(pod, Target{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		if env := lower.Spec.Containers[0].Env; env[len(env)-1].Value != "mine" || len(lower.Spec.HostAliases) > 0 {
			t.Errorf("%q: environment %v, aliases %v", text, env, lower.Spec.HostAliases)
		}
	}
}

// A pod that gets no token has no volume that waits for one; what asked for one by itself is told.
func TestNoTokens(t *testing.T) {
	t.Parallel()
	pod, target := accountPod("web", "none"), Target{Rules: trusted}
	lower, err := LowerPod(pod, target)
	if err != nil {
		t.Fatal(err)
	}
	if len(lower.Spec.Volumes) != 1 || len(tokenSources(&lower.Spec)) > 0 || len(lower.Spec.Containers[0].VolumeMounts) != 1 {
		t.Errorf("below is %+v", lower.Spec)
	}
	if diff := cmp.Diff([]string{"vault"}, target.LeftTokens(pod)); diff != "" {
		t.Error(diff)
	}
	if left := target.LeftTokens(accountPod("web", "upper")); left != nil {
		t.Errorf("left: %v", left)
	}
	if found := target.References(pod); len(found) > 0 {
		t.Errorf("it names %v", found)
	}
}

// The account of the same name below, whose token lower admission mounts as it does for every pod there.
func TestLowerAccount(t *testing.T) {
	t.Parallel()
	pod, target := accountPod("web", "lower"), Target{Rules: trusted}
	lower, err := LowerPod(pod, target)
	if err != nil {
		t.Fatal(err)
	}
	if s := lower.Spec; s.ServiceAccountName != "web" || s.AutomountServiceAccountToken != nil || len(s.Volumes) != 1 || len(tokenSources(&s)) != 4 {
		t.Errorf("below is %+v", s)
	}
	pod.Spec.Volumes = nil
	if lower, err = LowerPod(pod, target); err != nil || *lower.Spec.AutomountServiceAccountToken {
		t.Errorf("it has no token above, and one below: %v", err)
	}
}
