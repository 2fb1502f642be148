package virtualnode_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// answer is what a webhook says of a pod: no for a reason, or yes with a JSON patch.
type answer struct{ no, patch string }

// hook registers a webhook of the lower cluster's own for pods of the test's namespace; judge may change until the test ends.
func (w *troubled) hook(judge func() answer) {
	w.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		said, kind := judge(), admissionv1.PatchTypeJSONPatch
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: said.no == ""}
		if said.no != "" {
			review.Response.Result = &metav1.Status{Message: said.no}
		}
		if said.patch != "" {
			review.Response.PatchType, review.Response.Patch = &kind, []byte(said.patch)
		}
		_ = json.NewEncoder(rw).Encode(review) // The API server has gone if this fails.
	}))
	w.Cleanup(server.Close)
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	hooks := w.lower(1).AdmissionregistrationV1().MutatingWebhookConfigurations()
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.ns},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "pods.test.example.com",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL: &server.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.ns}},
			FailurePolicy:     &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}
	if _, err := hooks.Create(w.Context(), configuration, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = hooks.Delete(context.Background(), w.ns, metav1.DeleteOptions{}) }) // The lab ends anyway.
	lower := w.lower(1)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns, Labels: map[string]string{"tessera.sh/open-to": "any"}}}
	if _, err := lower.CoreV1().Namespaces().Create(w.Context(), namespace, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error { // Until it is called, a pod of ours would come through unseen.
		probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{"app": "probe"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		created, err := lower.CoreV1().Pods(w.ns).Create(w.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && created.Labels["injected"] == "" {
			return fmt.Errorf("the webhook is not called yet")
		}
		if err != nil && !strings.Contains(err.Error(), "denied the request") {
			return err
		}
		return nil
	})
}

// A webhook below rejects the pod: its owner reads the webhook's words, and once it agrees the pod runs.
func webhookRejects(w *troubled) {
	said := make(chan answer, 1)
	said <- answer{no: "images must come from registry.example.com"}
	w.hook(func() answer {
		now := <-said
		said <- now
		return now
	})
	w.create(w.pod("p", 1, never))
	w.refused("p", "images must come from registry.example.com")
	<-said
	said <- answer{}
	w.accepted("p")
}

// A webhook below changes the pod: that stays as it is, and what changes above still comes down, no more and no less.
func webhookChanges(w *troubled) {
	w.hook(func() answer {
		return answer{patch: `[{"op":"add","path":"/metadata/labels/injected","value":"true"},` +
			`{"op":"replace","path":"/spec/containers/0/image","value":"registry.example.com/app:1"},` +
			`{"op":"add","path":"/spec/containers/-","value":{"name":"sidecar","image":"mesh:1"}}]`}
	})
	below := w.runs("p")
	changed := func(p *corev1.Pod) bool {
		return p.UID == below.UID && p.Labels["injected"] == "true" && len(p.Spec.Containers) == 2 &&
			p.Spec.Containers[0].Image == "registry.example.com/app:1"
	}
	if !changed(below) {
		w.Fatalf("the webhook did not change the pod, so this test shows nothing: %v %+v", below.Labels, below.Spec.Containers)
	}
	if _, err := w.upper.CoreV1().Pods(w.ns).Patch(w.Context(), "p", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"more":"x"}}}`), metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
	w.becomes(w.lower(1), "p", "changed as above and as the webhook wants", func(p *corev1.Pod) bool {
		return p.Labels["more"] == "x" && changed(p)
	})
	if pod := w.get(w.upper, "p"); len(pod.Spec.Containers) != 1 || pod.Labels["injected"] != "" || len(pod.Status.ContainerStatuses) != 1 {
		w.Errorf("above: labels %v, %d containers, the states of %d", pod.Labels, len(pod.Spec.Containers), len(pod.Status.ContainerStatuses))
	}
}
