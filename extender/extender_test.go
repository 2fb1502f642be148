package extender

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// testExtender is an extender whose caches a test fills by hand; nothing of it talks to a cluster.
type testExtender struct {
	*Extender
	server *httptest.Server
}

// newTestExtender knows cluster "a" with nodes of 2 and 4 free CPUs, cluster "b" with one of 8, and a real upper node.
func newTestExtender(t *testing.T) *testExtender {
	t.Helper()
	config := DefaultConfig()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	e := newExtender(config, log, fake.NewClientset(), "test")
	e.ready.Store(true)
	for _, name := range []string{"a", "b"} {
		e.addVirtualNode(t, name)
		e.join(t, name)
	}
	e.addNode(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "real"}})
	e.pool.Publish(time.Now(), snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "2"), lowerNode("a2", "4")}}))
	e.pool.Publish(time.Now(), snapshot.New(snapshot.Content{Cluster: "b", Nodes: []*snapshot.Node{lowerNode("b1", "8")}}))
	server := httptest.NewServer(e.routes(&serve.Guard{}))
	t.Cleanup(server.Close)
	return &testExtender{Extender: e, server: server}
}

// virtualNode is one as virtualnode writes it.
func virtualNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Cluster: name}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: keys.VirtualTaint, Effect: corev1.TaintEffectNoSchedule}}},
	}
}

func (e *Extender) addVirtualNode(t testing.TB, name string) {
	t.Helper()
	e.addNode(t, virtualNode(name))
}

func (e *Extender) addNode(t testing.TB, node *corev1.Node) {
	t.Helper()
	if err := e.upper.nodes.GetStore().Add(node); err != nil {
		t.Fatal(err)
	}
}

func healthy() lower.Health { return lower.Health{Synced: true, Contact: time.Now()} }

// join registers a cluster whose health says that it was synced and heard of just now.
func (e *Extender) join(t testing.TB, name string) *lower.Watch {
	t.Helper()
	watch, err := lower.NewWatch(name, "test", &rest.Config{Host: "https://127.0.0.1:1"}, e.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	watch.SetHealth(healthy())
	e.clusters[name] = &clusterState{
		watch:  watch,
		around: lower.NewAround(watch.Client(), e.log, func() {}), claims: lower.NewClaims(watch.Client(), e.log, func() {}),
	}
	return watch
}

func lowerNode(name, cpu string) *snapshot.Node {
	return snapshot.NewNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": name}},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")},
		},
	}, nil)
}

func testPod(name, cpu string) *corev1.Pod {
	requests := corev1.ResourceList{keys.PodResource: resource.MustParse("0")}
	if cpu != "" {
		requests["cpu"] = resource.MustParse(cpu)
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}}},
	}
}

// call sends a request and decodes a JSON answer, if there is one.
func (e *testExtender) call(t *testing.T, method, path, body string, into any) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, e.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatalf("%s %s: %s: %v", method, path, data, err)
		}
	}
	return response.StatusCode
}

func encode(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// publish has the pool told of a whole cluster.
func (e *Extender) publish(s *snapshot.Snapshot) {
	e.takeOver(s.Cluster, func(now time.Time) snapshot.News { return e.pool.Publish(now, s) })
}
