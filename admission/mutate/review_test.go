package mutate

import (
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
)

// wrapped is an AdmissionReview of a core or apps object.
func wrapped(group, kind, object string) []byte {
	return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","operation":"CREATE",` +
		`"kind":{"group":"` + group + `","version":"v1","kind":"` + kind + `"},"object":` + object + `}}`)
}

// FuzzReview holds Review to: a patch applies to the object, and deciding on the result changes nothing more.
func FuzzReview(f *testing.F) {
	f.Add(wrapped("", "Pod", `{"unknown":1,"spec":{"nodeSelector":{"disk":"ssd"},"tolerations":[{"effect":"NoExecute","newer":"x"}],"containers":[{"name":"c"}]}}`))
	f.Add(wrapped("", "Pod", `{"metadata":{"annotations":{"tessera.sh/sealed":"{"}},"spec":{"tolerations":[{"operator":"Exists"}],"containers":[{"resources":{"limits":{"tessera.sh/pod":"0"}}}]}}`))
	f.Add(wrapped("apps", "DaemonSet", `{"spec":{"template":{"spec":{"tolerations":[{"operator":"Exists"}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{}]}}}}}}}`))
	f.Add([]byte(`{"kind":"AdmissionReview"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, decide := range []Change{Pods(Settings{Standard: standard}), Copies(Settings{Standard: standard}), Others} {
			answer, result, err := Review(body, decide)
			if err != nil {
				if answer != nil || result != Malformed {
					t.Errorf("answer %v, result %s beside the error %v", answer, result, err)
				}
				continue
			}
			request, _ := decode(body)
			if answer.Response.UID != request.UID || (answer.Response.Patch != nil) != (result == Patched) {
				t.Errorf("answer %+v, result %s", answer.Response, result)
			}
			if answer.Response.Patch != nil {
				again(t, request, answer.Response.Patch, decide)
			}
		}
	})
}

// again applies the patch and asks once more: it must apply, and deciding must have come to an end.
func again(t *testing.T, request *admissionv1.AdmissionRequest, patch []byte, decide Change) {
	t.Helper()
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := operations.Apply(request.Object.Raw)
	if err != nil {
		t.Fatalf("patch %s does not apply to %s: %v", patch, request.Object.Raw, err)
	}
	second := *request
	second.Object.Raw = patched
	if more, _, err := decide(&second); err != nil || more != nil {
		t.Errorf("a second time: %s %v, after %s", more, err, patched)
	}
}

// BenchmarkReview is a pod with constraints, 4 kB of JSON.
func BenchmarkReview(b *testing.B) {
	body := wrapped("", "Pod", `{"metadata":{"name":"web","namespace":"shop","labels":{"app":"web"},"annotations":{"note":"`+strings.Repeat("x", 2000)+`"}},
"spec":{"nodeSelector":{"disk":"ssd"},"tolerations":[{"key":"gpu","operator":"Exists"}],"topologySpreadConstraints":[{"maxSkew":1,
"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"web"}}}],
"containers":[{"name":"c","image":"web","env":[`+strings.Repeat(`{"name":"A","value":"`+strings.Repeat("v", 40)+`"},`, 20)+`{"name":"B"}],
"resources":{"requests":{"cpu":"1","memory":"1Gi"}}}],"volumes":[{"name":"a","emptyDir":{}}]}}`)
	for b.Loop() {
		if _, result, err := Review(body, Pods(Settings{Standard: standard})); err != nil || result != Patched {
			b.Fatal(result, err)
		}
	}
}
