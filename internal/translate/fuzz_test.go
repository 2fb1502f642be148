package translate

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/fieldpath"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// FuzzSealAndLower takes a pod, perhaps with a sealed annotation that anybody may have written, and a virtual node with its
// rules.
//
// What holds: Unseal gives back what Seal put aside; a sealed pod becomes the same lower pod as the one before; nothing in
// a lower pod speaks of the upper cluster but the marks of ownership and what the pod asks to read of itself; it is as the
// rules say; a power that is not allowed is refused; the pod that went in is not changed.
func FuzzSealAndLower(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"web","namespace":"shop","uid":"u","labels":{"app":"web","tessera.sh/enabled":"true"},"annotations":{"tessera.sh/policy":"only"}},
"spec":{"nodeName":"vn-a","schedulerName":"s","priority":7,"nodeSelector":{"disk":"ssd","tessera.sh/cluster":"a"},
"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"In","values":["a"]},{"key":"gpu","operator":"Exists"}]},
{"matchExpressions":[{"key":"tessera.sh/zone","operator":"NotIn","values":["x"]}],"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]},{}]}}},
"containers":[{"name":"c","resources":{"requests":{"cpu":"1","tessera.sh/pod":"0"},"limits":{"tessera.sh/pod":"0"}},"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/t"}]}],
"initContainers":[{"name":"i","resources":{"requests":{"tessera.sh/pod":"0"}}}],"volumes":[{"name":"kube-api-access-x"}],
"tolerations":[{"key":"tessera.sh/virtual","operator":"Exists"}],"serviceAccountName":"web","schedulingGates":[{"name":"tessera.sh/gang"}]}}`), "", "a",
		`{"namespacePrefix":"t-","schedulerName":"batch","nodes":"pool=shared","priority":"same"}`)
	f.Add([]byte(`{"metadata":{"name":"p","namespace":"shop","uid":"u","generation":3,"labels":{"a":"b","tessera.sh/enabled":"true"}},"spec":{"hostNetwork":true,
"priorityClassName":"high","overhead":{"cpu":"1"},"containers":[{"name":"c","securityContext":{"privileged":true},"env":[{"name":"N","valueFrom":{"fieldRef":
{"apiVersion":"v1","fieldPath":"metadata.namespace"}}},{"name":"E","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['tessera.sh/enabled']"}}}]}],
"volumes":[{"name":"h","hostPath":{"path":"/"}},{"name":"d","downwardAPI":{"items":[{"path":"l","fieldRef":{"fieldPath":"metadata.labels"}}]}}],
"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"z","namespaces":["shop"]}]}}}}`), "", "a",
		`{"namespacePrefix":"t-","priority":"map","priorityClasses":{"high":"low"},"allow":["hostPath","privileged","hostNamespaces"]}`)
	f.Add([]byte(`{"metadata":{"name":"p","namespace":"shop","uid":"u","annotations":{"tessera.sh/token":"upper"}},"spec":{"serviceAccountName":"web",
"containers":[{"name":"c","env":[{"name":"KUBERNETES_SERVICE_HOST","value":"x"}],"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/t"}]}],
"volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":{"path":"token","expirationSeconds":3607}},
{"configMap":{"name":"kube-root-ca.crt"}},{"serviceAccountToken":{"path":"vault","audience":"vault"}}]}}]}}`), "", "a",
		`{"allow":["upperToken","lowerAccount"],"upperAPI":"https://192.0.2.1"}`)
	f.Add([]byte(`{"metadata":{"name":"p","namespace":"shop","labels":{"app":"x"}},"spec":{"affinity":{"nodeAffinity":{
"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":3,"preference":{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"In","values":["a"]},
{"key":"disk","operator":"Exists"}]}}]},"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"tessera.sh/cluster","labelSelector":{}}],
"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"rack","labelSelector":{},"matchLabelKeys":["app"]}}]},
"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"x"}}}]}},
"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"x"}}},
{"maxSkew":1,"topologyKey":"tessera.sh/zone","whenUnsatisfiable":"ScheduleAnyway"}]}}`), "", "a", `{}`)
	f.Add([]byte(`{}`), `{"nodeSelector":{"a":"b"},"requiredNodeAffinity":{"nodeSelectorTerms":null}}`, "a", `{}`)
	f.Add([]byte(`{"metadata":{"name":"p"}}`), `null`, "b", `{"nodes":"x"}`)
	f.Add([]byte(`{}`), `{"requiredNodeAffinity":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"Gt","values":["x","y"]}]}]}}`, "1", ``)
	f.Fuzz(func(t *testing.T, body []byte, sealed, cluster, rules string) {
		pod := &corev1.Pod{}
		target := Target{VirtualNode: "vn-" + cluster, Labels: map[string]string{keys.Cluster: cluster}, Identity: "us"}
		if json.Unmarshal(body, pod) != nil || (rules != "" && json.Unmarshal([]byte(rules), &target.Rules) != nil) {
			return
		}
		if target.Rules.Nodes != "" {
			target.Rules.Nodes = "pool=shared"
		}
		if sealed != "" {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[keys.Sealed] = sealed
		}
		before := encode(t, pod)
		lower, err := LowerPod(pod, target)
		if refused := target.allows(pod) != nil; refused != errors.As(err, new(*NotAllowed)) {
			t.Errorf("refused: %t, LowerPod says %v", refused, err)
		}
		if err == nil {
			saysNothingOfAbove(t, lower)
			followsRules(t, pod, lower, target.Rules)
			readsTheSame(t, pod, lower)
		}
		if !seal.Sealed(pod) && err == nil {
			sealAgain(t, pod, lower, target)
		}
		if diff := cmp.Diff(before, encode(t, pod)); diff != "" {
			t.Errorf("the pod was changed:\n%s", diff)
		}
	})
}

// sealAgain checks the codec: sealing loses nothing, and a sealed pod becomes the same lower pod.
func sealAgain(t *testing.T, pod, lower *corev1.Pod, target Target) {
	t.Helper()
	for _, policy := range []string{keys.PolicyOnly, keys.PolicyPrefer} {
		sealed, err := seal.Of(pod).Seal(pod, policy)
		if err != nil {
			t.Fatalf("a pod that was decoded cannot be sealed: %v", err)
		}
		whole, err := seal.Unseal(sealed)
		if diff := cmp.Diff(encode(t, seal.Of(pod)), encode(t, whole)); diff != "" || err != nil {
			t.Errorf("%s: sealed and unsealed: %v\n%s", policy, err, diff)
		}
		if added := seal.Of(sealed).Without(whole.Above(policy)); !added.Empty() {
			t.Errorf("%s: the seal is not known for what it is: %+v", policy, added)
		}
		if policy == keys.PolicyOnly {
			speaksOfClusters(t, sealed)
		}
		again, err := LowerPod(sealed, target)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(encode(t, lower), encode(t, again)); diff != "" {
			t.Errorf("%s: sealed, the pod becomes another lower pod:\n%s", policy, diff)
		}
	}
}

// speaksOfClusters looks for what the upper scheduler cannot know of.
func speaksOfClusters(t *testing.T, sealed *corev1.Pod) {
	t.Helper()
	left := seal.Of(sealed)
	if left.PodAffinity != nil || left.PodAntiAffinity != nil || len(left.Spread) > 0 {
		t.Errorf("the upper scheduler is asked where other pods are: %+v", left)
	}
	for _, term := range left.Required.NodeSelectorTerms {
		if len(term.MatchFields) > 0 || slices.ContainsFunc(term.MatchExpressions, func(e requirement) bool { return !above(e.Key) }) {
			t.Errorf("the upper scheduler is asked for what only lower nodes have: %+v", term)
		}
	}
}

// followsRules looks for what the rules say.
func followsRules(t *testing.T, pod, lower *corev1.Pod, rules Rules) {
	t.Helper()
	if s := &lower.Spec; lower.Namespace != rules.LowerNamespace(pod.Namespace) || s.SchedulerName != rules.SchedulerName ||
		s.PriorityClassName != rules.PriorityClass(pod.Spec.PriorityClassName) {
		t.Errorf("rules %+v: namespace %s, scheduler %s, class %s", rules, lower.Namespace, s.SchedulerName, s.PriorityClassName)
	}
	if account := lower.Spec.ServiceAccountName; account != "" && pod.Annotations[keys.Token] != string(TokenLower) {
		t.Errorf("the account %s came down", account)
	}
	if len(tokenSources(&lower.Spec)) > 0 && pod.Annotations[keys.Token] != string(TokenLower) {
		t.Error("a token of the default account below is mounted")
	}
	if rules.Nodes == "" {
		return
	}
	required := seal.Of(lower).Required
	if required == nil {
		t.Fatal("any lower node would do, also one that does not take part")
	}
	for _, term := range required.NodeSelectorTerms {
		if !slices.ContainsFunc(term.MatchExpressions, func(e requirement) bool { return cmp.Equal(e, in("pool", "shared")) }) {
			t.Errorf("a term that a node meets which does not take part: %+v", term)
		}
	}
}

// readsTheSame compares what the downward API says below with what it says above.
func readsTheSame(t *testing.T, upper, lower *corev1.Pod) {
	t.Helper()
	above, below := fieldRefs(&upper.Spec), fieldRefs(&lower.Spec)
	if len(above) != len(below) { // Volumes of the upper token are gone.
		return
	}
	for i := range above {
		if path := above[i].FieldPath; strings.HasPrefix(path, "metadata.") && path != "metadata.annotations" {
			want, err := fieldpath.ExtractFieldPathAsString(upper, path)
			got, readErr := fieldpath.ExtractFieldPathAsString(lower, below[i].FieldPath)
			if err == nil && (readErr != nil || got != want) {
				t.Errorf("%s is %q above; below %s is %q (%v)", path, want, below[i].FieldPath, got, readErr)
			}
		}
	}
}

// saysNothingOfAbove looks for what must not come down.
func saysNothingOfAbove(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	marks := []string{keys.Upper, keys.VirtualNode, keys.UpperUID, keys.UpperNamespace, keys.UpperName, keys.UpperGeneration,
		keys.UpperLabels, keys.UpperAnnotations, keys.UpperServiceAccount}
	read := func(key string) bool {
		return strings.HasPrefix(key, keys.UpperLabel) || strings.HasPrefix(key, keys.UpperAnnotation)
	}
	for _, kept := range []map[string]string{pod.Labels, pod.Annotations, pod.Spec.NodeSelector} {
		for key := range maps.Keys(kept) {
			if strings.HasPrefix(key, keys.Domain) && !slices.Contains(marks, key) && !read(key) {
				t.Errorf("%s came down", key)
			}
		}
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, list := range []corev1.ResourceList{container.Resources.Requests, container.Resources.Limits} {
			if _, marked := list[keys.PodResource]; marked {
				t.Errorf("container %s asks for %s", container.Name, keys.PodResource)
			}
		}
	}
	required := seal.Of(pod).Required
	if required != nil && len(required.NodeSelectorTerms) == 0 {
		t.Error("no API server takes an empty list of terms")
	}
	if required != nil {
		for _, term := range required.NodeSelectorTerms {
			if len(term.MatchExpressions) > 1 && cmp.Equal(term.MatchExpressions[:2], []requirement{seal.Virtual, seal.Real}) {
				continue // It is meant to be met by none.
			}
			if seal.MatchesNothing(term) || slices.ContainsFunc(term.MatchExpressions, func(e requirement) bool { return above(e.Key) }) {
				t.Errorf("a term that no lower node can meet: %+v", term)
			}
		}
	}
	if s := &pod.Spec; s.NodeName != "" || s.Priority != nil || s.PreemptionPolicy != nil ||
		len(s.SchedulingGates)+len(s.EphemeralContainers)+len(s.EvictionResponders)+len(s.Overhead) > 0 || s.SchedulingGroup != nil {
		t.Errorf("what names things of the upper cluster came down: %+v", s)
	}
}

func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
