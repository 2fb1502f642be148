package manifests_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/resmap"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// withComponents is base with components.
func withComponents(t *testing.T, components ...string) resmap.ResMap {
	t.Helper()
	text := "resources: [../base]\ncomponents: ["
	for i, component := range components {
		text += strings.Repeat(", ", min(i, 1)) + "../components/" + component
	}
	return kustomized(t, "mine", map[string]string{"mine/kustomization.yaml": text + "]\n"})
}

// object finds the one of a kind and name.
func object[T runtime.Object](t *testing.T, built resmap.ResMap, kind, name string) T {
	t.Helper()
	for _, found := range built.Resources() {
		if found.GetKind() != kind || found.GetName() != name {
			continue
		}
		text, err := found.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		return objects(t, text)[0].(T)
	}
	t.Fatalf("there is no %s %s", kind, name)
	return *new(T)
}

// Which namespaces' pods, with which label, are Tessera's by each choice of components.
func TestWho(t *testing.T) {
	const yes, no, silent = "true", "false", ""
	for name, choice := range map[string]struct {
		components []string
		want       func(namespace, pod string) bool
	}{
		"base":       {nil, func(namespace, pod string) bool { return namespace == yes && pod != no }},
		"everywhere": {[]string{"everywhere"}, func(namespace, pod string) bool { return namespace != no && pod != no }},
		"pod-opt-in": {[]string{"pod-opt-in"}, func(namespace, pod string) bool { return namespace != no && pod != no && namespace+pod != "" }},
		"both":       {[]string{"pod-opt-in", "everywhere"}, func(namespace, pod string) bool { return namespace != no && pod != no }},
	} {
		t.Run(name, func(t *testing.T) {
			hooks := object[*admissionregistrationv1.MutatingWebhookConfiguration](t, withComponents(t, choice.components...),
				"MutatingWebhookConfiguration", "tessera").Webhooks
			for _, ns := range []string{"shop", "kube-system", "kube-public", "kube-node-lease", keys.Namespace} {
				for _, of := range []string{yes, no, silent} {
					for _, pod := range []string{yes, no, silent} {
						want := ns == "shop" && choice.want(of, pod)
						if got := marks(t, hooks, label(of, corev1.LabelMetadataName, ns), label(pod)); got != want {
							t.Errorf("namespace %s says %q, pod says %q: marked %t, want %t", ns, of, pod, got, want)
						}
					}
				}
			}
		})
	}
}

func label(enabled string, more ...string) labels.Set {
	set := labels.Set{}
	if enabled != "" {
		set[keys.Enabled] = enabled
	}
	if len(more) > 0 {
		set[more[0]] = more[1]
	}
	return set
}

// marks reports whether a webhook that marks is called about a pod.
func marks(t *testing.T, hooks []admissionregistrationv1.MutatingWebhook, namespace, pod labels.Set) bool {
	t.Helper()
	for _, hook := range hooks {
		matches := *hook.ClientConfig.Service.Path == "/mutate" && hook.Rules[0].Operations[0] == admissionregistrationv1.Create
		for selector, set := range map[*metav1.LabelSelector]labels.Set{hook.NamespaceSelector: namespace, hook.ObjectSelector: pod} {
			parsed, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil {
				t.Fatal(err)
			}
			matches = matches && (selector == nil || parsed.Matches(set))
		}
		if matches {
			return true
		}
	}
	return false
}

// Where no webhook marks a copy of one of Tessera's pods, one gives it back what was sealed, and nowhere else.
func TestWhoIsRestored(t *testing.T) {
	for _, components := range [][]string{nil, {"everywhere"}} {
		hooks := object[*admissionregistrationv1.MutatingWebhookConfiguration](t, withComponents(t, components...),
			"MutatingWebhookConfiguration", "tessera").Webhooks
		restore := slices.IndexFunc(hooks, func(h admissionregistrationv1.MutatingWebhook) bool { return h.Name == "restore.tessera.sh" })
		for _, of := range []string{"true", "false", ""} {
			selector, err := metav1.LabelSelectorAsSelector(hooks[restore].NamespaceSelector)
			if err != nil {
				t.Fatal(err)
			}
			namespace := label(of, corev1.LabelMetadataName, "shop")
			if marked := marks(t, hooks, namespace, labels.Set{}); selector.Matches(namespace) == marked {
				t.Errorf("%v: a namespace that says %q: marked %t, restored %t", components, of, marked, !marked)
			}
		}
	}
}

// A single pod that opted in is called about under the same conditions as one of a namespace.
func TestSameConditions(t *testing.T) {
	hooks := object[*admissionregistrationv1.MutatingWebhookConfiguration](t, withComponents(t, "pod-opt-in"),
		"MutatingWebhookConfiguration", "tessera").Webhooks
	by := map[string]string{}
	for _, hook := range hooks {
		by[hook.Name] = fmt.Sprint(hook.MatchConditions)
	}
	if by["mark.tessera.sh"] != by["mark-pod.tessera.sh"] {
		t.Errorf("matchConditions of mark: %s\nof mark-pod: %s", by["mark.tessera.sh"], by["mark-pod.tessera.sh"])
	}
}
