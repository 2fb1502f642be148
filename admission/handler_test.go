package admission

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/manifests"
)

// reviewOf wraps an object as the API server does.
func reviewOf(kind, object string) string {
	group := ""
	if kind == "DaemonSet" || kind == "Deployment" {
		group = "apps"
	}
	return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","dryRun":true,"operation":"CREATE",` +
		`"kind":{"group":"` + group + `","version":"v1","kind":"` + kind + `"},"object":` + object + `}}`
}

// plainPod has fields that our types do not know, lacks some that our encoder always writes, and tolerates all.
const plainPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","newMeta":{"a":1}},
	"spec":{"newSpec":12345678901234567890,"nodeSelector":{"disk":"ssd"},"tolerations":[{"operator":"Exists","effect":"NoExecute","newer":"x"}],
	"containers":[{"name":"c","image":"web","newContainer":true}]}}`

func TestMutateAnswer(t *testing.T) {
	response := ask(t, "/mutate", reviewOf("Pod", plainPod))
	if response.UID != "u1" || !response.Allowed || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("answer: %+v", response)
	}
	got := applied(t, plainPod, response.Patch)
	want := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","newMeta":{"a":1},
		"annotations":{"tessera.sh/decision":"{\"marked\":true,\"from\":{\"policy\":\"config\"}}","tessera.sh/policy":"only",
			"tessera.sh/sealed":"{\"nodeSelector\":{\"disk\":\"ssd\"}}","tessera.sh/tolerations":"node.kubernetes.io/network-unavailable"}},
		"spec":{"newSpec":12345678901234567890,
		"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
			{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"Exists"}]}]}}},
		"tolerations":[{"operator":"Exists","effect":"NoExecute","newer":"x"},{"key":"tessera.sh/virtual","operator":"Exists","effect":"NoSchedule"},
			{"key":"node.kubernetes.io/network-unavailable","operator":"Exists","effect":"NoSchedule"}],
		"containers":[{"name":"c","image":"web","newContainer":true,"resources":{"limits":{"tessera.sh/pod":"0"},"requests":{"tessera.sh/pod":"0"}}}]}}`
	if diff := cmp.Diff(tree(t, want), got); diff != "" {
		t.Errorf("patched pod:\n%s", diff)
	}
}

func TestKeepOffAnswer(t *testing.T) {
	spec := `{"tolerations":[{"operator":"Exists"}],"containers":[{"name":"c"}]}`
	kept := `{"tolerations":[{"operator":"Exists"}],"containers":[{"name":"c"}],
		"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
			{"matchExpressions":[{"key":"tessera.sh/cluster","operator":"DoesNotExist"}]}]}}}}`
	for kind, wrap := range map[string]string{"Pod": `{"spec":SPEC}`, "DaemonSet": `{"spec":{"template":{"spec":SPEC}}}`} {
		t.Run(kind, func(t *testing.T) {
			object := strings.ReplaceAll(wrap, "SPEC", spec)
			response := ask(t, "/keep-off", reviewOf(kind, object))
			want := tree(t, strings.ReplaceAll(wrap, "SPEC", kept))
			if diff := cmp.Diff(want, applied(t, object, response.Patch)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeniedAnswer(t *testing.T) {
	response := ask(t, "/mutate", reviewOf("Pod", `{"metadata":{"annotations":{"tessera.sh/policy":"maybe"}},"spec":{"containers":[{"name":"c"}]}}`))
	if response.Allowed || response.Result.Code != http.StatusUnprocessableEntity || !strings.Contains(response.Result.Message, keys.Policy) {
		t.Errorf("answer: %+v", response)
	}
}

func TestUnchangedAnswer(t *testing.T) {
	for _, path := range []string{"/mutate", "/keep-off"} {
		response := ask(t, path, reviewOf("Pod", `{"spec":{"nodeName":"n1","containers":[{"name":"c"}]}}`))
		if !response.Allowed || response.Patch != nil || response.PatchType != nil {
			t.Errorf("%s: %+v", path, response)
		}
	}
}

func TestBadInput(t *testing.T) {
	cases := map[string]struct {
		path, body string
		status     int
		text       string
	}{
		"no JSON":         {"/mutate", "{", http.StatusBadRequest, "decoding AdmissionReview"},
		"empty":           {"/mutate", "", http.StatusBadRequest, "decoding AdmissionReview"},
		"another kind":    {"/mutate", `{"apiVersion":"v1","kind":"Pod"}`, http.StatusBadRequest, "only admission.k8s.io/v1 AdmissionReview"},
		"an old version":  {"/mutate", `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}`, http.StatusBadRequest, "v1beta1"},
		"no request":      {"/keep-off", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest, "request.object"},
		"no object":       {"/mutate", reviewOf("Pod", "null"), http.StatusBadRequest, "request.object"},
		"no pod":          {"/mutate", reviewOf("Pod", `{"spec":7}`), http.StatusBadRequest, "decoding request.object"},
		"wrong kind":      {"/mutate", reviewOf("DaemonSet", "{}"), http.StatusBadRequest, "DaemonSet"},
		"a Deployment":    {"/keep-off", reviewOf("Deployment", "{}"), http.StatusBadRequest, "Deployment"},
		"10 MB":           {"/mutate", strings.Repeat(" ", 10<<20), http.StatusRequestEntityTooLarge, "larger than"},
		"an unknown path": {"/other", "{}", http.StatusNotFound, ""},
	}
	server := newServer(t)
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			status, body := post(t, server, test.path, test.body)
			if status != test.status || !strings.Contains(body, test.text) {
				t.Fatalf("answered %d %s", status, body)
			}
			var answer struct{ Error string }
			if err := json.Unmarshal([]byte(body), &answer); test.text != "" && (err != nil || answer.Error == "") {
				t.Errorf("body %q is not {\"error\": ...}", body)
			}
		})
	}
}

func TestPlainListener(t *testing.T) {
	plain := httptest.NewServer(handlerOf(newMetrics(noCertificate)))
	defer plain.Close()
	if status, body := post(t, plain, "/mutate", reviewOf("Pod", plainPod)); status != http.StatusForbidden {
		t.Errorf("the plain listener answered %d %s", status, body)
	}
	for path, secure := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusUnauthorized} {
		if status := get(t, plain, path); status != http.StatusOK {
			t.Errorf("plain %s: %d", path, status)
		}
		if status := get(t, newServer(t), path); status != secure {
			t.Errorf("TLS %s without a client certificate: %d, want %d", path, status, secure)
		}
	}
}

func TestMetrics(t *testing.T) {
	metrics := newMetrics(noCertificate)
	server := httptest.NewTLSServer(handlerOf(metrics))
	defer server.Close()
	post(t, server, "/mutate", reviewOf("Pod", plainPod))
	post(t, server, "/mutate", "{")
	post(t, server, "/keep-off", reviewOf("Pod", plainPod))
	want := `# HELP tessera_admission_requests_total Webhook calls by path (mutate, keep-off) and result (patched, unchanged, denied, malformed, tooLarge).
# TYPE tessera_admission_requests_total counter
tessera_admission_requests_total{path="keep-off",result="unchanged"} 1
tessera_admission_requests_total{path="mutate",result="malformed"} 1
tessera_admission_requests_total{path="mutate",result="patched"} 1
`
	if err := testutil.GatherAndCompare(metrics.registry, strings.NewReader(want), "tessera_admission_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	const good = "listen: 127.0.0.1:0\ncertFile: a\nkeyFile: b\n"
	for text, want := range map[string]string{
		good:                                 "",
		good + "clusters: x\n":               `"clusters"`,
		"listen: 127.0.0.1:0\n":              "",
		"listen: 127.0.0.1:0\ncertFile: a\n": "keyFile",
		"listen: 127.0.0.1:0\nownCertificate: {life: 1h, authorityLife: 30m, overlap: 0s}\n": "ownCertificate.life",
		"listen: 127.0.0.1:0\nownCertificate: {life: 1h, overlap: 11m}\n":                    "ownCertificate.overlap",
		"listen: 127.0.0.1:0\nownCertificate: {names: [\"a b\"]}\n":                          "ownCertificate.names",
		"listen: 127.0.0.1:0\nownCertificate: {secret: A}\n":                                 "ownCertificate.secret",
		"listen: 127.0.0.1:0\nnamespace: A\n":                                                "namespace",
		"insecureLoopback: true\n":                                                           "listen: give",
		good + "logLevel: chatty\n":                                                          "logLevel",
		good + "listen: [1, 2, 3]\n":                                                         "listen",
	} {
		file := filepath.Join(t.TempDir(), "admission.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := serve.Load(file, DefaultConfig())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestShippedConfig reads the file that the manifests mount.
func TestShippedConfig(t *testing.T) {
	data, err := manifests.Files.ReadFile("base/admission/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "admission.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := serve.Load(file, DefaultConfig()); err != nil {
		t.Error(err)
	}
}

// noCertificate is what is served where nobody looks at it.
func noCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }

func handlerOf(m *metrics) http.Handler {
	return newHandler(slog.New(slog.DiscardHandler), m, serve.ClientCertificate, func() error { return nil }, mutate.Settings{Standard: time.Minute})
}

func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(handlerOf(newMetrics(noCertificate)))
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, path, body string) *admissionv1.AdmissionResponse {
	t.Helper()
	status, text := post(t, newServer(t), path, body)
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal([]byte(text), &review); err != nil || status != http.StatusOK || review.TypeMeta != (metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}) {
		t.Fatalf("answered %d %s (%v)", status, text, err)
	}
	return review.Response
}

func post(t *testing.T, server *httptest.Server, path, body string) (int, string) {
	t.Helper()
	response, err := server.Client().Post(server.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func get(t *testing.T, server *httptest.Server, path string) int {
	t.Helper()
	response, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func applied(t *testing.T, object string, patch []byte) any {
	t.Helper()
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := operations.Apply([]byte(object))
	if err != nil {
		t.Fatalf("applying %s: %v", patch, err)
	}
	return tree(t, string(patched))
}

func tree(t *testing.T, text string) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// TestHelpNamesEveryKey keeps --help complete.
func TestHelpNamesEveryKey(t *testing.T) {
	for _, of := range []reflect.Type{reflect.TypeFor[serve.Config](), reflect.TypeFor[Config](), reflect.TypeFor[Given](), reflect.TypeFor[OwnCertificate]()} {
		for field := range of.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "" || key == "-" {
				continue
			}
			if !strings.Contains("\n"+configHelp, "\n"+key+":") && !strings.Contains(configHelp, "\n  "+key+":") {
				t.Errorf("--help does not say what %s is", key)
			}
		}
	}
}
