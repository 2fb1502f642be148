package admission

import (
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/manifests"
)

// keepOffConditions are the matchConditions of the shipped webhook /keep-off, compiled by the API server's own code.
func keepOffConditions(t *testing.T) matchconditions.Matcher {
	t.Helper()
	text, err := fs.ReadFile(manifests.Files, "base/admission/webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var configuration admissionregistrationv1.MutatingWebhookConfiguration
		if err := yaml.Unmarshal([]byte(document), &configuration); err != nil {
			t.Fatal(err)
		}
		for i := range configuration.Webhooks {
			if hook := &configuration.Webhooks[i]; len(hook.MatchConditions) > 0 {
				compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
				return apiwebhook.NewMutatingWebhookAccessor("uid", configuration.Name, hook).GetCompiledMatcher(compiler)
			}
		}
	}
	t.Fatal("no webhook has matchConditions")
	return nil
}

// The API server calls /keep-off about a pod exactly where the webhook would change it: what CEL says in webhook.yaml is
// what translate.Marked and the tolerations say in Go.
func TestConditionsSayWhatTheWebhookSays(t *testing.T) {
	t.Parallel()
	matcher := keepOffConditions(t)
	random := rand.New(rand.NewPCG(1, 2))
	called := 0
	const rounds = 2000
	for range rounds {
		pod := randomPod(random)
		match := matcher.Match(t.Context(), &apiadmission.VersionedAttributes{
			Attributes: apiadmission.NewAttributesRecord(pod, nil, schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, "ns", "p",
				schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "", apiadmission.Create, nil, false, nil),
			VersionedObject: apiadmission.NewLazyObject(pod), VersionedKind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"},
		}, nil, nil)
		if match.Error != nil {
			t.Fatal(match.Error)
		}
		if match.Matches {
			called++
		}
		if changes := mutate.KeepOff(pod) != pod; changes != match.Matches {
			t.Fatalf("the webhook is called: %t, and would change the pod: %t: %+v", match.Matches, changes, pod.Spec)
		}
	}
	if called < rounds/20 || called > rounds-rounds/20 {
		t.Errorf("called about %d of %d pods: the generator is too one-sided to show anything", called, rounds)
	}
}

func randomPod(random *rand.Rand) *corev1.Pod {
	one := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	pod := &corev1.Pod{}
	pod.Spec.Containers = append([]corev1.Container{{Name: "c"}}, randomContainers(random)...)
	pod.Spec.InitContainers = randomContainers(random)
	for range random.IntN(3) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: one("", keys.VirtualTaint, "other"), Operator: corev1.TolerationOperator(one("", "Exists", "Equal")),
			Effect: corev1.TaintEffect(one("", "NoSchedule", "NoExecute")),
		})
	}
	return pod
}

// randomContainers are up to two, of which each list of resources has the marker at times.
func randomContainers(random *rand.Rand) []corev1.Container {
	some := func() corev1.ResourceList {
		switch random.IntN(8) {
		case 0:
			return corev1.ResourceList{keys.PodResource: {}}
		case 1, 2, 3:
			return corev1.ResourceList{corev1.ResourceCPU: {}}
		default:
			return nil
		}
	}
	containers := make([]corev1.Container, random.IntN(3))
	for i := range containers {
		containers[i].Resources = corev1.ResourceRequirements{Requests: some(), Limits: some()}
	}
	return containers
}
