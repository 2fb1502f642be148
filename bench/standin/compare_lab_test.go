package standin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/standin"
)

var shared = lab.NewShared(lab.Options{Lower: 1, Nodes: 4})

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// side is one of the two API servers that are asked the same.
type side struct {
	t         *testing.T
	config    *rest.Config
	client    kubernetes.Interface
	http      *http.Client
	namespace string
	node      string // one that takes pods
}

// sides returns the real API server and the stand-in, with a namespace of the test's own in each.
func sides(t *testing.T) (actual, played *side) {
	l := shared.Get(t)
	namespace := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "/", "-")
	namespace = regexp.MustCompile(`[^a-z0-9-]+`).ReplaceAllString(namespace, "-")
	namespace = strings.Trim(namespace[:min(len(namespace), 60)], "-")
	return newSide(t, l.Lower(1), namespace), newSide(t, start(t, standin.Options{Clusters: 1, Nodes: 4, Pods: 20, Seed: 1}), namespace)
}

// start runs a stand-in with one cluster and returns how to reach it.
func start(t *testing.T, o standin.Options) *rest.Config {
	t.Helper()
	o.Dir = t.TempDir()
	s, err := standin.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	config, err := clientcmd.BuildConfigFromFlags("", o.Dir+"/"+s.Names()[0]+standin.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func newSide(t *testing.T, config *rest.Config, namespace string) *side {
	t.Helper()
	s := &side{t: t, config: rest.CopyConfig(config), namespace: namespace}
	s.config.QPS = -1
	var err error
	if s.client, err = kubernetes.NewForConfig(s.config); err != nil {
		t.Fatal(err)
	}
	if s.http, err = rest.HTTPClientFor(s.config); err != nil {
		t.Fatal(err)
	}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := s.client.CoreV1().Namespaces().Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		_, err := s.client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	nodes, err := s.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		t.Fatal("no nodes", err)
	}
	s.node = nodes.Items[0].Name
	return s
}

// call is one request.
type call struct {
	method, path, body string
	headers            map[string]string
}

// answer is what came back, with what must differ made the same.
type answer struct {
	Code        int
	ContentType string
	Body        any
}

// do asks. NS in a path or body is the namespace of the side, NODE its node.
func (s *side) do(c call) answer {
	s.t.Helper()
	code, media, data := s.raw(c)
	a := answer{Code: code, ContentType: media}
	var object map[string]any
	if json.Unmarshal(data, &object) == nil {
		a.Body = s.normal(object)
	} else {
		a.Body = string(data)
	}
	return a
}

func (s *side) raw(c call) (code int, media string, body []byte) {
	s.t.Helper()
	fill := strings.NewReplacer("NS", s.namespace, "NODE", s.node)
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, c.method, s.config.Host+fill.Replace(c.path), strings.NewReader(fill.Replace(c.body)))
	if err != nil {
		s.t.Fatal(err)
	}
	if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for key, value := range c.headers {
		request.Header.Set(key, value)
	}
	client := s.http
	if c.headers["Authorization"] != "" { // Who says who he is is not taken for the administrator.
		if client, err = rest.HTTPClientFor(rest.AnonymousClientConfig(s.config)); err != nil {
			s.t.Fatal(err)
		}
	}
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), data
}

// differing are keys whose values are nobody's business, or not played.
var differing = []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "lastTransitionTime", "deletionTimestamp", "startTime", "continue"}

// normal makes the same what must differ.
func (s *side) normal(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			switch {
			case key == "managedFields":
				delete(v, key)
			case slices.Contains(differing, key) && inner != nil && inner != "":
				v[key] = "*"
			default:
				v[key] = s.normal(inner)
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = s.normal(v[i])
		}
		return v
	case string:
		return s.words(v)
	}
	return value
}

var (
	uids    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	storage = regexp.MustCompile(`StorageError: .*AdditionalErrorMsg: `)
	numbers = regexp.MustCompile(`\b[0-9]{2,}\b`)
)

func (s *side) words(text string) string {
	text = strings.ReplaceAll(text, s.node, "NODE")
	text = storage.ReplaceAllString(text, "")                 // It has no etcd to name keys of.
	text = strings.ReplaceAll(text, "application/yaml, ", "") // The stand-in does not speak it: client-go never asks.
	return numbers.ReplaceAllString(uids.ReplaceAllString(text, "UID"), "N")
}

// pod is a pod as JSON that no scheduler looks at.
func pod(name, labels string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{%s}},"spec":{"schedulerName":"nobody",`+
		`"automountServiceAccountToken":false,"containers":[{"name":"c","image":"pause:1","resources":{"requests":{"cpu":"10m"}}}]}}`, name, labels)
}

func configMap(name, labels string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"labels":{%s}},"data":{"a":"1"}}`, name, labels)
}

// Paths that cases share.
const (
	pods = "/api/v1/namespaces/NS/pods"
	maps = "/api/v1/namespaces/NS/configmaps"
)

func get(path string) call          { return call{method: "GET", path: path} }
func post(path, body string) call   { return call{method: "POST", path: path, body: body} }
func put(path, body string) call    { return call{method: "PUT", path: path, body: body} }
func remove(path, body string) call { return call{method: "DELETE", path: path, body: body} }
func patch(kind, path, body string) call {
	return call{method: "PATCH", path: path, body: body, headers: map[string]string{"Content-Type": kind}}
}

const (
	merge     = "application/merge-patch+json"
	strategic = "application/strategic-merge-patch+json"
	jsonPatch = "application/json-patch+json"
)

// The same calls in the same order get the same answers.
func TestAnswers(t *testing.T) {
	for name, calls := range map[string][]call{
		"health":      {get("/readyz"), get("/livez"), get("/healthz")},
		"wrong token": {{method: "GET", path: pods, headers: map[string]string{"Authorization": "Bearer no"}}},
		"nothing there": {
			get(pods + "/none"), get("/api/v1/nodes/none"), get("/api/v1/namespaces/none"), get("/api/v1/things"), get("/apis/none.example.com/v1/things"),
			patch(merge, pods+"/none", `{}`), put(maps+"/none", configMap("none", "")), remove(pods+"/none", ""), get("/apis/policy/v1/namespaces/NS/poddisruptionbudgets/none"),
			post("/api/v1/namespaces/none/pods", pod("p", "")), post(pods+"/none/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"none"},"target":{"kind":"Node","name":"NODE"}}`),
			post(pods+"/none/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"none"}}`),
		},
		"forms": {
			{method: "GET", path: pods, headers: map[string]string{"Accept": "application/json"}},
			{method: "GET", path: pods, headers: map[string]string{"Accept": "application/unknown, application/json;q=0.1"}},
			{method: "GET", path: pods, headers: map[string]string{"Accept": "application/unknown"}},
			{method: "GET", path: pods, headers: map[string]string{"Accept": "*/*"}},
		},
		"create": {
			post(pods, pod("p", `"a":"b"`)), post(pods, pod("p", "")), get(pods + "/p"), get(pods + "/p/status"), post(pods+"?dryRun=All", pod("q", "")), get(pods + "/q"),
			post(maps, configMap("m", "")), post(maps, configMap("m", "")), get(maps + "/m"), post(maps, `{"metadata":{}}`), post(maps, `{"metadata":{"name":"A"}}`),
			post(maps, `nonsense`), post(maps, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"other"}}`),
		},
		"patches": {
			post(maps, configMap("m", `"a":"b"`)),
			patch(merge, maps+"/m", `{"data":{"a":null,"b":"2"}}`), patch(strategic, maps+"/m", `{"metadata":{"labels":{"c":"d"}}}`),
			patch(jsonPatch, maps+"/m", `[{"op":"replace","path":"/data/b","value":"3"}]`), patch(merge, maps+"/m", `{}`),
			patch(merge, maps+"/m", `{"metadata":{"uid":"00000000-0000-4000-8000-000000000000"}}`),
			patch(merge, maps+"/m", `{"metadata":{"resourceVersion":"1"}}`), patch("text/plain", maps+"/m", `{}`),
			patch(jsonPatch, maps+"/m", `[{"op":"test","path":"/data/b","value":"no"}]`), get(maps + "/m"),
		},
		"pods change": {
			post(pods, pod("p", `"a":"b"`)),
			patch(strategic, pods+"/p", `{"metadata":{"annotations":{"x":"y"}},"spec":{"activeDeadlineSeconds":100}}`),
			patch(strategic, pods+"/p", `{"spec":{"containers":[{"name":"c","image":"pause:2"}]}}`),
			patch(strategic, pods+"/p/status", `{"status":{"nominatedNodeName":"NODE","conditions":[{"type":"example.com/x","status":"True"}]}}`),
			patch(strategic, pods+"/p", `{"status":{"phase":"Running"}}`), patch(strategic, pods+"/p/status", `{"spec":{"nodeName":"NODE"}}`),
			patch(strategic, pods+"/p/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"d","image":"pause:1","terminationMessagePolicy":"File","imagePullPolicy":"Always"}]}}`),
			get(pods + "/p"),
		},
		"conflicts": {
			post(maps, configMap("m", "")), put(maps+"/m", `{"metadata":{"name":"m","resourceVersion":"1"}}`), put(maps+"/m", `{"metadata":{"name":"m"},"data":{"z":"1"}}`),
			remove(maps+"/m", `{"preconditions":{"uid":"00000000-0000-4000-8000-000000000000"}}`), remove(maps+"/m", `{"preconditions":{"resourceVersion":"1"}}`),
			put(maps+"/m", `{"metadata":{"name":"m","uid":"00000000-0000-4000-8000-000000000000"}}`), put(maps+"/m", `{"metadata":{"name":"n"}}`),
			remove(maps+"/m", ""), remove(maps+"/m", ""),
			post(pods, pod("p", "")), patch(strategic, pods+"/p", `{"metadata":{"uid":"00000000-0000-4000-8000-000000000000","labels":{"a":"b"}}}`),
			patch(strategic, pods+"/p/status", `{"metadata":{"uid":"00000000-0000-4000-8000-000000000000"},"status":{"message":"x"}}`),
			remove(pods+"/p", `{"preconditions":{"uid":"00000000-0000-4000-8000-000000000000"}}`),
		},
		"binding": {
			post(pods, pod("p", "")), post(pods+"/p/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"NODE"}}`),
			post(pods+"/p/binding", `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"NODE"}}`),
			post(pods+"/p/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}`),
		},
		"deletions": {
			post(pods, pod("p", "")), remove(pods+"/p", ""), get(pods + "/p"), post(pods, pod("q", `"g":"1"`)), post(pods, pod("r", `"g":"2"`)),
			remove(pods+"?labelSelector=g%3D1", ""), get(pods), post(maps, configMap("m", `"g":"1"`)), remove(maps+"?labelSelector=g%3D1", `{"gracePeriodSeconds":0}`),
		},
		"pages": {
			post(pods, pod("a", `"g":"1"`)), post(pods, pod("b", `"g":"2"`)), post(pods, pod("c", `"g":"1"`)),
			get(pods + "?limit=2"), get(pods + "?limit=2&labelSelector=g"), get(pods + "?limit=3"), get(pods + "?continue=nonsense"),
			get(pods + "?limit=2&resourceVersion=0"),
		},
		"selectors": {
			post(pods, pod("a", `"g":"1"`)), post(pods, pod("b", `"g":"2","h":""`)), get(pods + "?labelSelector=g%3D1"), get(pods + "?labelSelector=g%21%3D1"),
			get(pods + "?labelSelector=g+in+(1,2),!h"), get(pods + "?fieldSelector=metadata.name%3Da"), get(pods + "?fieldSelector=spec.nodeName%3D"),
			get(pods + "?fieldSelector=status.phase%21%3DPending"), get(pods + "?fieldSelector=spec.schedulerName%3Dnobody,metadata.name%3Db"),
			get(pods + "?fieldSelector=foo%3Dbar"), get(pods + "?labelSelector=%28"), get("/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue"),
			get("/api/v1/namespaces/NS/events?fieldSelector=involvedObject.kind%3DPod,type%3DWarning"), get("/api/v1/namespaces?fieldSelector=metadata.name%3DNS"),
		},
		"versions": {
			get(pods + "?resourceVersion=x"), get(pods + "?resourceVersionMatch=Exact"), get(pods + "?resourceVersion=0&resourceVersionMatch=Exact"),
			get(pods + "?sendInitialEvents=true"), get(pods + "?watch=true&sendInitialEvents=true"), get(pods + "?watch=true&resourceVersionMatch=NotOlderThan"),
			get(pods + "?resourceVersion=9000000000000"), get(pods + "?resourceVersion=0"),
		},
		"methods": {
			put(pods, `{}`), {method: "POST", path: pods + "/p", body: pod("p", "")}, get(pods + "/p/nothing"), {method: "PUT", path: pods + "/p/binding", body: `{}`},
		},
		"namespaces": {
			post("/api/v1/namespaces", `{"metadata":{"name":"NS-2","labels":{"a":"b"}}}`), patch(merge, "/api/v1/namespaces/NS-2", `{"metadata":{"labels":{"a":null}}}`),
			remove("/api/v1/namespaces/NS-2", `{"preconditions":{"uid":"00000000-0000-4000-8000-000000000000"}}`), remove("/api/v1/namespaces/NS-2", ""),
		},
		"rights": {post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
			`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"list","resource":"pods"}}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			actual, played := sides(t)
			for _, c := range calls {
				want, got := actual.do(c), played.do(c)
				withoutRule(want.Body)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s %s %s: real (-) and stand-in (+)\n%s", c.method, c.path, c.body, diff)
				}
			}
		})
	}
}

// withoutRule takes out of a review which rule allows: the stand-in has none.
func withoutRule(body any) {
	review, ok := body.(map[string]any)
	if !ok || review["kind"] != "SelfSubjectAccessReview" {
		return
	}
	if status, ok := review["status"].(map[string]any); ok {
		delete(status, "reason")
	}
}

// Every resource that the stand-in has is described as the real one describes it.
func TestDiscovery(t *testing.T) {
	actual, played := sides(t)
	describe := func(s *side) map[string]metav1.APIResource {
		_, lists, err := s.client.Discovery().ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]metav1.APIResource{}
		for _, list := range lists {
			for _, r := range list.APIResources {
				r.Categories, r.StorageVersionHash = nil, ""
				slices.Sort(r.Verbs)
				all[list.GroupVersion+" "+r.Name] = r
			}
		}
		return all
	}
	want, got := describe(actual), describe(played)
	for name, r := range got {
		if diff := cmp.Diff(want[name], r); diff != "" {
			t.Errorf("%s: real (-) and stand-in (+)\n%s", name, diff)
		}
	}
	version := func(s *side) string {
		v, err := s.client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		return v.GitVersion + " " + v.Major + "." + v.Minor
	}
	if want, got := version(actual), version(played); want != got {
		t.Errorf("version %s and %s", want, got)
	}
}

// Pages hold together: what is created or deleted meanwhile is in none of the later ones.
func TestPagesAreOnePicture(t *testing.T) {
	actual, played := sides(t)
	read := func(s *side) []string {
		maps := s.client.CoreV1().ConfigMaps(s.namespace)
		create := func(name string) {
			if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			create(name)
		}
		var trace []string
		options := metav1.ListOptions{Limit: 2}
		for {
			page, err := maps.List(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Items {
				trace = append(trace, m.Name)
			}
			trace = append(trace, fmt.Sprint("remaining ", page.RemainingItemCount != nil && *page.RemainingItemCount > 0))
			if options.Continue == "" {
				create("bb")
				if err := maps.Delete(t.Context(), "c", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if options.Continue = page.Continue; options.Continue == "" {
				return trace
			}
		}
	}
	if diff := cmp.Diff(read(actual), read(played)); diff != "" {
		t.Errorf("real (-) and stand-in (+)\n%s", diff)
	}
}
