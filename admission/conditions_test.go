package admission

import (
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// conditionsOf are the matchConditions of a shipped webhook, compiled by the API server's own code.
func conditionsOf(t *testing.T, name string) matchconditions.Matcher {
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
			if hook := &configuration.Webhooks[i]; hook.Name == name {
				compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
				return apiwebhook.NewMutatingWebhookAccessor("uid", configuration.Name, hook).GetCompiledMatcher(compiler)
			}
		}
	}
	t.Fatalf("there is no webhook %s", name)
	return nil
}

// The API server calls a webhook about a pod exactly where that would change it: what CEL says in webhook.yaml is what
// mutate says in Go.
func TestConditionsSayWhatTheWebhookSays(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]func(*corev1.Pod) bool{
		"keep-off.tessera.sh": func(pod *corev1.Pod) bool { return mutate.KeepOff(pod) != pod },
		"mark.tessera.sh": func(pod *corev1.Pod) bool {
			marked, _, err := mutate.Mark(pod, "ns", mutate.Settings{Standard: time.Minute})
			return err != nil || marked != pod
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			comparesEqual(t, conditionsOf(t, name), changes)
		})
	}
}

func comparesEqual(t *testing.T, matcher matchconditions.Matcher, changes func(*corev1.Pod) bool) {
	t.Helper()
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
		if changes := changes(pod); changes != match.Matches {
			t.Fatalf("the webhook is called: %t, and would change the pod: %t: %+v", match.Matches, changes, pod)
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
	pod.Spec.NodeName = one("", "", "n")
	if random.IntN(2) == 0 { // There is one controller at most.
		pod.OwnerReferences = []metav1.OwnerReference{
			{Kind: one("DaemonSet", "ReplicaSet"), Controller: []*bool{nil, new(false), new(true)}[random.IntN(3)]}, {Kind: "DaemonSet"},
		}
	}
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
