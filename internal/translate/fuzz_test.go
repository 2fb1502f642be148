package translate

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// FuzzSealAndLower takes a pod, perhaps with a sealed annotation that anybody may have written, and a virtual node.
//
// What holds: Unseal gives back what Seal put aside; a sealed pod becomes the same lower pod as the one before; nothing in
// a lower pod speaks of the upper cluster but the marks of ownership; the pod that went in is not changed.
func FuzzSealAndLower(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"web","namespace":"shop","uid":"u","labels":{"app":"web","tessera.sh/enabled":"true"},"annotations":{"tessera.sh/policy":"only"}},
"spec":{"nodeName":"vn-a","schedulerName":"s","priority":7,"nodeSelector":{"disk":"ssd","tessera.sh/cluster":"a"},
"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"In","values":["a"]},{"key":"gpu","operator":"Exists"}]},
{"matchExpressions":[{"key":"tessera.sh/zone","operator":"NotIn","values":["x"]}],"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]},{}]}}},
"containers":[{"name":"c","resources":{"requests":{"cpu":"1","tessera.sh/pod":"0"},"limits":{"tessera.sh/pod":"0"}},"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/t"}]}],
"initContainers":[{"name":"i","resources":{"requests":{"tessera.sh/pod":"0"}}}],"volumes":[{"name":"kube-api-access-x"}],
"tolerations":[{"key":"tessera.sh/virtual","operator":"Exists"}],"serviceAccountName":"web","schedulingGates":[{"name":"tessera.sh/gang"}]}}`), "", "a")
	f.Add([]byte(`{}`), `{"nodeSelector":{"a":"b"},"requiredNodeAffinity":{"nodeSelectorTerms":null}}`, "a")
	f.Add([]byte(`{"metadata":{"name":"p"}}`), `null`, "b")
	f.Add([]byte(`{}`), `{"requiredNodeAffinity":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"Gt","values":["x","y"]}]}]}}`, "1")
	f.Fuzz(func(t *testing.T, body []byte, sealed, cluster string) {
		pod := &corev1.Pod{}
		if json.Unmarshal(body, pod) != nil {
			return
		}
		if sealed != "" {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			pod.Annotations[keys.Sealed] = sealed
		}
		target := Target{VirtualNode: "vn-" + cluster, Labels: map[string]string{keys.Cluster: cluster}, Identity: "us"}
		before := encode(t, pod)
		lower, err := LowerPod(pod, target)
		if err == nil {
			saysNothingOfAbove(t, lower)
		}
		if !Sealed(pod) {
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
	sealed, err := Seal(pod)
	if err != nil {
		t.Fatalf("a pod that was decoded cannot be sealed: %v", err)
	}
	whole, err := Unseal(sealed)
	if diff := cmp.Diff(encode(t, constraints(pod)), encode(t, whole)); diff != "" || err != nil {
		t.Errorf("sealed and unsealed: %v\n%s", err, diff)
	}
	if twice, err := Seal(sealed); err != nil || twice != sealed {
		t.Errorf("sealing twice: %v", err)
	}
	for _, term := range constraints(sealed).Required.NodeSelectorTerms {
		if len(term.MatchFields) > 0 || slices.ContainsFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool { return !aboveExpression(e) }) {
			t.Errorf("the upper scheduler is asked for what only lower nodes have: %+v", term)
		}
	}
	again, err := LowerPod(sealed, target)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(encode(t, withoutShells(lower)), encode(t, withoutShells(again))); diff != "" {
		t.Errorf("sealed, the pod becomes another lower pod:\n%s", diff)
	}
}

// withoutShells drops an affinity that says nothing.
func withoutShells(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	if affinity := pod.Spec.Affinity; affinity != nil {
		if cmp.Equal(affinity.NodeAffinity, &corev1.NodeAffinity{}) {
			affinity.NodeAffinity = nil
		}
		if *affinity == (corev1.Affinity{}) {
			pod.Spec.Affinity = nil
		}
	}
	return pod
}

// saysNothingOfAbove looks for what must not come down.
func saysNothingOfAbove(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	marks := []string{keys.Upper, keys.VirtualNode, keys.UpperUID, keys.UpperNamespace, keys.UpperName}
	for _, kept := range []map[string]string{pod.Labels, pod.Annotations, pod.Spec.NodeSelector} {
		for key := range maps.Keys(kept) {
			if strings.HasPrefix(key, keys.Domain) && !slices.Contains(marks, key) {
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
	required := constraints(pod).Required
	if required != nil && len(required.NodeSelectorTerms) == 0 {
		t.Error("no API server takes an empty list of terms")
	}
	if required != nil && !cmp.Equal(required.NodeSelectorTerms, []corev1.NodeSelectorTerm{nothing}) {
		for _, term := range required.NodeSelectorTerms {
			if blank(term) || slices.ContainsFunc(term.MatchExpressions, aboveExpression) {
				t.Errorf("a term that no lower node can meet: %+v", term)
			}
		}
	}
	if s := &pod.Spec; s.NodeName+s.SchedulerName+s.PriorityClassName+s.ServiceAccountName != "" || s.Priority != nil || len(s.SchedulingGates) > 0 {
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
