package extender

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// owned is a pod of the ReplicaSet ns/web.
func owned(name, cpu string) *corev1.Pod {
	yes := true
	pod := testPod(name, cpu)
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "uid-web", Controller: &yes}}
	return pod
}

const ownerJSON = `"owner":{"kind":"ReplicaSet","namespace":"ns","name":"web"}`

// reserveCPU asks for room for a pod of ns/web in cluster a.
func (e *testExtender) reserveCPU(t *testing.T, cpu, more string) (hold wire.Hold, status int) {
	t.Helper()
	body := fmt.Sprintf(`{"requests":{"cpu":%q},%s,"cluster":"a","ttlSeconds":60%s}`, cpu, ownerJSON, more)
	return hold, e.call(t, http.MethodPost, "/v1/holds", body, &hold)
}

func TestReserve(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	hold, status := e.reserveCPU(t, "3", "")
	want := wire.Hold{
		UID: hold.UID, Owner: snapshot.Owner{Kind: "ReplicaSet", Namespace: "ns", Name: "web"}, Namespace: "ns", Cluster: "a", Node: "a2",
		State: snapshot.Reserved, Requests: map[string]string{"cpu": "3", "pods": "1"},
	}
	if diff := cmp.Diff(want, hold); diff != "" || status != http.StatusCreated || hold.UID == "" {
		t.Fatalf("status %d:\n%s", status, diff)
	}
	var seen wire.Hold
	if status := e.call(t, http.MethodGet, "/v1/holds/"+string(hold.UID), "", &seen); status != http.StatusOK || seen.Node != "a2" {
		t.Errorf("status %d, %+v", status, seen)
	}
	if got := *e.filterNames(t, testPod("other", "3"), "a").NodeNames; len(got) != 0 {
		t.Errorf("another owner's pod goes to %v", got)
	}
	if status := e.call(t, http.MethodDelete, "/v1/holds/"+string(hold.UID), "", nil); status != http.StatusNoContent {
		t.Errorf("delete: status %d", status)
	}
	if got := *e.filterNames(t, testPod("other", "3"), "a").NodeNames; len(got) != 1 {
		t.Error("the room was not given back")
	}
}

func TestReservedRoomPassesToTheOwnersPod(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	reserved, _ := e.reserveCPU(t, "4", "")
	pod := owned("web-1", "1")
	if got := *e.filterNames(t, pod, "a", "b").NodeNames; len(got) != 2 {
		t.Errorf("passed %v", got)
	}
	if hold := e.pool.Hold(pod.UID); hold == nil || hold.Node != "a2" {
		t.Errorf("the hold is %+v, although a2 is reserved and a1 only tighter", hold)
	}
	if status := e.call(t, http.MethodGet, "/v1/holds/"+string(reserved.UID), "", nil); status != http.StatusNotFound {
		t.Errorf("the reservation that has passed: status %d", status)
	}
	e.call(t, http.MethodDelete, "/v1/holds/"+string(pod.UID), "", nil)
	if hold := e.pool.Hold(reserved.UID); hold == nil || hold.Node != "a2" {
		t.Errorf("the offer has ended and the reservation is %+v", hold)
	}
}

func TestReservedRoomOutlivesABindThatFails(t *testing.T) {
	t.Parallel()
	b := newBindTest(t)
	reserved, _ := b.reserveCPU(t, "4", "")
	pod := owned("web-1", "1")
	b.cached(t, pod)
	b.stored(t, pod)
	b.fails = fmt.Errorf("no such right")
	if got := b.bindTo(t, pod, "a"); got == "" {
		t.Error("no error")
	}
	if b.pool.Hold(reserved.UID) == nil {
		t.Error("the reservation has gone with the bind")
	}
	b.fails = nil
	if got := b.bindTo(t, pod, "a"); got != "" {
		t.Error(got)
	}
	b.call(t, http.MethodDelete, "/v1/holds/"+string(pod.UID), "", nil)
	if hold := b.pool.Hold(reserved.UID); hold != nil {
		t.Errorf("the pod is bound and the reservation is back: %+v", hold)
	}
}

func TestReservedRoomCountsOnceAfterABindThatFails(t *testing.T) {
	t.Parallel()
	b := newBindTest(t)
	reserved, _ := b.reserveCPU(t, "4", "")
	pod := owned("web-1", "1")
	b.cached(t, pod)
	b.stored(t, pod)
	b.filterNames(t, pod, "a")
	b.fails = fmt.Errorf("no such right")
	if got := b.bindTo(t, pod, "a"); got == "" {
		t.Error("no error")
	}
	if held := b.pool.Held("a", "a2"); held.MilliCPU != 1000 {
		t.Errorf("held on a2: %v", held.Quantities())
	}
	b.call(t, http.MethodDelete, "/v1/holds/"+string(pod.UID), "", nil)
	if hold := b.pool.Hold(reserved.UID); hold == nil {
		t.Error("the offer has ended and the reservation is not back")
	}
}

func TestReserveForAWholePod(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	pod := owned("web-1", "1")
	pod.Spec.NodeSelector = map[string]string{"disk": "a2"}
	body, err := json.Marshal(map[string]any{"pod": pod, "cluster": "a", "ttlSeconds": 60})
	if err != nil {
		t.Fatal(err)
	}
	var hold wire.Hold
	if status := e.call(t, http.MethodPost, "/v1/holds", string(body), &hold); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	if hold.Node != "a2" || hold.Owner.Name != "web" || hold.Owner.UID != "uid-web" {
		t.Errorf("%+v", hold)
	}
}

func TestReserveRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		cpu, more string
		spoil     func(t *testing.T, e *testExtender)
		status    int
		want      string
	}{
		"more than a node has":        {cpu: "5", status: http.StatusConflict, want: "Fragmented"},
		"more than the named one has": {cpu: "3", more: `,"node":"a1"`, status: http.StatusConflict, want: "InsufficientCPU"},
		"room that is held": {
			cpu: "3", more: `,"node":"a2"`, status: http.StatusConflict, want: "Held",
			spoil: func(t *testing.T, e *testExtender) { e.reserveCPU(t, "2", `,"node":"a2"`) },
		},
		"a node that is not there": {cpu: "1", more: `,"node":"b1"`, status: http.StatusConflict, want: `no node "b1"`},
		"a cluster that is not there": {
			cpu: "1", status: http.StatusNotFound, want: `no cluster "a"`,
			spoil: func(_ *testing.T, e *testExtender) { delete(e.clusters, "a") },
		},
		"a cluster that is not synced": {
			cpu: "1", status: http.StatusConflict, want: "NotSynced",
			spoil: func(_ *testing.T, e *testExtender) { e.ready.Store(false) },
		},
		"a cluster without a virtual node": {
			cpu: "1", status: http.StatusConflict, want: "NotSynced",
			spoil: func(_ *testing.T, e *testExtender) { _ = e.upper.nodes.GetStore().Delete(e.upper.node("a")) },
		},
		"a cluster that the owner avoids": {
			cpu: "1", status: http.StatusConflict, want: "Avoided",
			spoil: func(_ *testing.T, e *testExtender) {
				entry := &wire.AvoidEntry{Cluster: "a"}
				e.avoid.entries.SetDefault(entry.Key(), entry)
			},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestExtender(t)
			if test.spoil != nil {
				test.spoil(t, e)
			}
			before := len(e.pool.Holds())
			body := fmt.Sprintf(`{"requests":{"cpu":%q},%s,"cluster":"a","ttlSeconds":60%s}`, test.cpu, ownerJSON, test.more)
			var answer struct{ Error string }
			if status := e.call(t, http.MethodPost, "/v1/holds", body, &answer); status != test.status || !strings.Contains(answer.Error, test.want) {
				t.Errorf("status %d, error %q; want %d and %q", status, answer.Error, test.status, test.want)
			}
			if after := len(e.pool.Holds()); after != before {
				t.Errorf("%d holds, before %d", after, before)
			}
		})
	}
}

func TestBadReservations(t *testing.T) {
	t.Parallel()
	rest := ownerJSON + `,"cluster":"a","ttlSeconds":60`
	cases := map[string]struct{ body, want string }{
		"no JSON":                  {"{", "reading body"},
		"empty":                    {"", "reading body"},
		"null":                     {"null", "exactly one"},
		"10 MB":                    {`{"node":"` + strings.Repeat("x", 10<<20) + `"}`, "at most"},
		"an unknown key":           {`{"request":{},` + rest + `}`, `unknown field "request"`},
		"an unknown key in a pod":  {`{"pod":{"sepc":{}},` + rest + `}`, `unknown field "sepc"`},
		"neither pod nor requests": {`{` + rest + `}`, "exactly one"},
		"both":                     {`{"pod":{},"requests":{},` + rest + `}`, "exactly one"},
		"no owner":                 {`{"requests":{},"cluster":"a","ttlSeconds":60}`, "owner"},
		"an owner without a name":  {`{"requests":{},"owner":{"kind":"Job","namespace":"ns"},"cluster":"a","ttlSeconds":60}`, "owner"},
		"a pod without a name":     {`{"pod":{},"cluster":"a","ttlSeconds":60}`, "owner"},
		"no cluster":               {`{"requests":{},` + ownerJSON + `,"ttlSeconds":60}`, "cluster"},
		"no time":                  {`{"requests":{},` + ownerJSON + `,"cluster":"a"}`, "ttlSeconds"},
		"a negative time":          {`{"requests":{},` + ownerJSON + `,"cluster":"a","ttlSeconds":-1}`, "ttlSeconds"},
		"more than an hour":        {`{"requests":{},` + ownerJSON + `,"cluster":"a","ttlSeconds":3601}`, "ttlSeconds"},
		"no quantity":              {`{"requests":{"cpu":"lots"},` + rest + `}`, "reading body"},
		"a negative quantity":      {`{"requests":{"cpu":"-1"},` + rest + `}`, "not within"},
		"an absurd quantity":       {`{"requests":{"memory":"2Pi"},` + rest + `}`, "not within"},
		"an absurd sum": {
			`{"pod":{"spec":{"containers":[{"resources":{"requests":{"cpu":"1e15"}}},{"resources":{"requests":{"cpu":"1e15"}}}]}},` + rest + `}`, "not within",
		},
		"a negative quantity that a sum hides": {
			`{"pod":{"spec":{"initContainers":[{"resources":{"requests":{"cpu":2}}}],"containers":[{"resources":{"requests":{"cpu":-1}}}]}},` + rest + `}`, "not within",
		},
		"no name of a resource": {`{"requests":{"a b":1},` + rest + `}`, "not the name"},
		"a number of pods":      {`{"requests":{"pods":3},` + rest + `}`, "not the name"},
		"a seal nobody can read": {
			`{"pod":{"metadata":{"annotations":{"` + keys.Sealed + `":"{"}}},` + rest + `}`, keys.Sealed,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answer struct{ Error string }
			if status := newTestExtender(t).call(t, http.MethodPost, "/v1/holds", test.body, &answer); status != http.StatusBadRequest {
				t.Errorf("status %d", status)
			}
			if !strings.Contains(answer.Error, test.want) {
				t.Errorf("error %q does not say %q", answer.Error, test.want)
			}
		})
	}
}
