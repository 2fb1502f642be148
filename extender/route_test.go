package extender

import (
	"net/http"
	"strings"
	"testing"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

func TestBadBodies(t *testing.T) {
	huge := `{"Pod":"` + strings.Repeat("x", 10<<20) + `"}`
	cases := map[string]struct{ path, body, want string }{
		"whatif, no JSON":              {"/debug/whatif", "{", "reading body"},
		"whatif, wrong type":           {"/debug/whatif", `{"spec":7}`, "reading body"},
		"whatif, 10 MB":                {"/debug/whatif", huge, "at most"},
		"whatif, replicas":             {"/debug/whatif?replicas=-1", `{}`, "replicas"},
		"avoid, no JSON":               {"/v1/avoid", "", "reading body"},
		"avoid, 10 MB":                 {"/v1/avoid", huge, "at most"},
		"avoid, neither owner nor pod": {"/v1/avoid", `{"cluster":"a","seconds":1}`, "exactly one"},
		"avoid, owner without UID":     {"/v1/avoid", `{"owner":{"name":"x"},"cluster":"a","seconds":1}`, "uid"},
		"avoid, no cluster":            {"/v1/avoid", `{"owner":{"uid":"x"},"seconds":1}`, "cluster"},
		"avoid, seconds":               {"/v1/avoid", `{"owner":{"uid":"x"},"cluster":"a"}`, "seconds"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			var answer struct{ Error string }
			if status := newTestExtender(t).call(t, http.MethodPost, test.path, test.body, &answer); status != http.StatusBadRequest {
				t.Errorf("status %d", status)
			}
			if !strings.Contains(answer.Error, test.want) {
				t.Errorf("error %q does not say %q", answer.Error, test.want)
			}
		})
	}
}

// The scheduler throws the body of anything but a 200 away, so its verbs put the error into the answer.
func TestBadBodiesOfTheVerbs(t *testing.T) {
	bodies := map[string]string{
		"no JSON": "{", "no pod": `{"NodeNames":["a"]}`, "no nodes": `{"Pod":{}}`, "null": "null", "empty": "",
		"10 MB": `{"Pod":"` + strings.Repeat("x", 10<<20) + `"}`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			var result extenderv1.ExtenderFilterResult
			if status := e.call(t, http.MethodPost, "/scheduler/filter", body, &result); status != http.StatusOK || result.Error == "" {
				t.Errorf("filter: status %d, error %q", status, result.Error)
			}
			var list extenderv1.HostPriorityList
			if status := e.call(t, http.MethodPost, "/scheduler/prioritize", body, &list); status != http.StatusOK || len(list) != 0 {
				t.Errorf("prioritize: status %d, %v", status, list)
			}
			for _, verb := range []string{"preempt", "bind"} {
				if status := e.call(t, http.MethodPost, "/scheduler/"+verb, body, nil); status != http.StatusOK {
					t.Errorf("%s: status %d", verb, status)
				}
			}
		})
	}
}

func TestUnknownThings(t *testing.T) {
	cases := map[string]struct {
		method, path string
		status       int
	}{
		"route":   {http.MethodGet, "/nothing", http.StatusNotFound},
		"method":  {http.MethodPut, "/v1/avoid", http.StatusMethodNotAllowed},
		"cluster": {http.MethodGet, "/debug/clusters/x", http.StatusNotFound},
		"pod":     {http.MethodGet, "/debug/pods/x/y", http.StatusNotFound},
		"hold":    {http.MethodGet, "/v1/holds/x", http.StatusNotFound},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			var answer struct{ Error string }
			status := newTestExtender(t).call(t, test.method, test.path, "", &answer)
			if status != test.status || answer.Error == "" {
				t.Errorf("status %d, error %q", status, answer.Error)
			}
		})
	}
}

func TestDebugKeys(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "3")
	e.filterNames(t, pod, "a", "b")
	has := func(path string, inside string, keys ...string) {
		t.Helper()
		var answer map[string]any
		if status := e.call(t, http.MethodGet, path, "", &answer); status != http.StatusOK {
			t.Fatalf("%s: status %d", path, status)
		}
		if inside != "" {
			answer = answer[inside].([]any)[0].(map[string]any)
		}
		for _, key := range keys {
			if _, ok := answer[key]; !ok {
				t.Errorf("%s: no key %q in %v", path, key, answer)
			}
		}
	}
	cluster := strings.Fields("name virtualNode synced stale ageSeconds nodes schedulableNodes pods allocatable free largestHole holds")
	has("/debug/clusters", "clusters", cluster...)
	has("/debug/clusters/a", "", append(cluster, "nodeList")...)
	has("/debug/clusters/a", "nodeList", strings.Fields("name ready cordoned taints allocatable free held pods")...)
	has("/debug/holds", "holds", strings.Fields("uid owner namespace name cluster node state requests ageSeconds")...)
	has("/v1/holds/uid-p", "", strings.Fields("uid owner namespace name cluster node state requests ageSeconds")...)
	has("/debug/pods/ns/p", "", strings.Fields("namespace name uid when chosen nextRetry clusters")...)
	has("/debug/pods/ns/p", "clusters", strings.Fields("name virtualNode fits reason message score bestNode short")...)
}

func TestWhatif(t *testing.T) {
	e := newTestExtender(t)
	var answer wire.Whatif
	if status := e.call(t, http.MethodPost, "/debug/whatif?replicas=5", encode(t, testPod("p", "4")), &answer); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if answer.Replicas != 5 || answer.Fitting != 3 || answer.Clusters[0].Node != "a2" || answer.Clusters[1].Replicas != 2 {
		t.Errorf("%+v", answer)
	}
	if len(e.pool.Holds()) != 0 {
		t.Error("whatif left a hold behind")
	}
}

func TestAvoidIsWrittenDownAndReadBack(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "1")
	body := encode(t, wire.AvoidRequest{Pod: pod, Cluster: "a", Seconds: 60, Reason: "stuck"})
	if status := e.call(t, http.MethodPost, "/v1/avoid", body, nil); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	again := newAvoidList(e.log, e.client, e.config.Namespace)
	if err := again.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner := snapshot.OwnerOf(pod)
	if !again.has(owner, "a") || again.has(owner, "b") {
		t.Error("the list that was read back differs")
	}
}

func TestPreemptNamesNoVictimOnVirtualNodes(t *testing.T) {
	e := newTestExtender(t)
	victims := &extenderv1.MetaVictims{Pods: []*extenderv1.MetaPod{{UID: "v"}}}
	args := extenderv1.ExtenderPreemptionArgs{Pod: testPod("p", "1"), NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{
		"a": victims, "real": victims, "ghost": victims,
	}}
	var result extenderv1.ExtenderPreemptionResult
	e.call(t, http.MethodPost, "/scheduler/preempt", encode(t, args), &result)
	if len(result.NodeNameToMetaVictims) != 1 || len(result.NodeNameToMetaVictims["real"].Pods) != 1 {
		t.Errorf("%+v", result)
	}
}

func TestReadiness(t *testing.T) {
	e := newTestExtender(t)
	if status := e.call(t, http.MethodGet, "/readyz", "", nil); status != http.StatusOK {
		t.Errorf("ready: status %d", status)
	}
	e.ready.Store(false)
	if status := e.call(t, http.MethodGet, "/readyz", "", nil); status != http.StatusServiceUnavailable {
		t.Errorf("not ready: status %d", status)
	}
	if status := e.call(t, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
		t.Errorf("healthz: status %d", status)
	}
}
