package extender

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

func (e *testExtender) filterNames(t *testing.T, pod *corev1.Pod, names ...string) extenderv1.ExtenderFilterResult {
	t.Helper()
	var result extenderv1.ExtenderFilterResult
	status := e.call(t, http.MethodPost, "/scheduler/filter", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names}), &result)
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	return result
}

func TestFilter(t *testing.T) {
	nominated := testPod("p", "16")
	nominated.Status.NominatedNodeName = "a"
	picky := testPod("p", "1")
	picky.Spec.NodeSelector = map[string]string{"disk": "b1"}
	unreadable := testPod("p", "1")
	unreadable.Annotations = map[string]string{keys.Sealed: "{"}
	odd := testPod("p", "1")
	odd.Spec.Containers[0].Resources.Requests["example.com/nobody-has-this"] = odd.Spec.Containers[0].Resources.Requests["cpu"]
	cases := map[string]struct {
		pod          *corev1.Pod
		names        []string
		passed       []string
		unresolvable extenderv1.FailedNodesMap
		failed       extenderv1.FailedNodesMap
		node         string // where the hold is
	}{
		"tightest first": {pod: testPod("p", "3"), names: []string{"b", "a"}, passed: []string{"a", "b"}, node: "a2"},
		"only where a node fits": {
			pod: testPod("p", "6"), names: []string{"a", "b"}, passed: []string{"b"}, node: "b1",
			unresolvable: extenderv1.FailedNodesMap{"a": text(keys.Fragmented)},
		},
		"nowhere": {
			pod: testPod("p", "9"), names: []string{"a", "b"}, passed: []string{},
			unresolvable: extenderv1.FailedNodesMap{"a": text(keys.InsufficientCPU), "b": text(keys.InsufficientCPU)},
		},
		"a nominated node is not unresolvable": {
			pod: nominated, names: []string{"a", "b"}, passed: []string{},
			unresolvable: extenderv1.FailedNodesMap{"b": text(keys.InsufficientCPU)},
			failed:       extenderv1.FailedNodesMap{"a": text(keys.InsufficientCPU)},
		},
		"real nodes pass, unknown ones do not": {
			pod: testPod("p", "1"), names: []string{"real", "ghost"}, passed: []string{"real"},
			unresolvable: extenderv1.FailedNodesMap{"ghost": text(keys.NotSynced)},
		},
		"a pod without requests": {pod: testPod("p", ""), names: []string{"a", "b"}, passed: []string{"a", "b"}, node: "a1"},
		"a resource that nobody has": {
			pod: odd, names: []string{"a", "b"}, passed: []string{},
			unresolvable: extenderv1.FailedNodesMap{"a": text(keys.InsufficientExtendedResource), "b": text(keys.InsufficientExtendedResource)},
		},
		"a selector for lower nodes": {
			pod: picky, names: []string{"a", "b"}, passed: []string{"b"}, node: "b1",
			unresolvable: extenderv1.FailedNodesMap{"a": text(keys.NodeAffinity)},
		},
		"a sealed annotation that cannot be read": {
			pod: unreadable, names: []string{"a"}, passed: []string{},
			unresolvable: extenderv1.FailedNodesMap{"a": text(keys.NodeAffinity)},
		},
		"no nodes": {pod: testPod("p", "1"), names: []string{}, passed: []string{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			result := e.filterNames(t, test.pod, test.names...)
			if diff := cmp.Diff(test.passed, *result.NodeNames); diff != "" {
				t.Errorf("passed:\n%s", diff)
			}
			if diff := cmp.Diff(orEmpty(test.unresolvable), result.FailedAndUnresolvableNodes); diff != "" {
				t.Errorf("unresolvable:\n%s", diff)
			}
			if diff := cmp.Diff(orEmpty(test.failed), result.FailedNodes); diff != "" {
				t.Errorf("failed:\n%s", diff)
			}
			node := ""
			if hold := e.pool.Hold(test.pod.UID); hold != nil {
				node = hold.Node
			}
			if node != test.node {
				t.Errorf("hold on %q, want %q", node, test.node)
			}
		})
	}
}

func orEmpty(m extenderv1.FailedNodesMap) extenderv1.FailedNodesMap {
	if m == nil {
		return extenderv1.FailedNodesMap{}
	}
	return m
}

func TestFilterAnswerBest(t *testing.T) {
	e := newTestExtender(t)
	e.config.FilterAnswer = answerBest
	result := e.filterNames(t, testPod("p", "1"), "a", "b")
	if diff := cmp.Diff([]string{"a"}, *result.NodeNames); diff != "" {
		t.Error(diff)
	}
}

func TestFilterHoldsAtOnce(t *testing.T) {
	e := newTestExtender(t)
	for i, want := range []int{2, 1, 1, 0} { // Room for one pod on a2 and for two on b1.
		pod := testPod(fmt.Sprint("p", i), "4")
		if got := len(*e.filterNames(t, pod, "a", "b").NodeNames); got != want {
			t.Errorf("pod %d fits on %d virtual nodes, want %d", i, got, want)
		}
	}
}

func TestFilterRefusesWhatItDoesNotKnow(t *testing.T) {
	cases := map[string]struct {
		spoil  func(e *testExtender, watch *lower.Watch)
		reason keys.Reason
	}{
		"start not over": {func(e *testExtender, _ *lower.Watch) { e.ready.Store(false) }, keys.NotSynced},
		"cluster not synced": {func(_ *testExtender, w *lower.Watch) {
			w.SetHealth(lower.Health{Contact: time.Now()})
		}, keys.NotSynced},
		"cluster not heard of": {func(_ *testExtender, w *lower.Watch) {
			w.SetHealth(lower.Health{Synced: true, Contact: time.Now().Add(-time.Minute)})
		}, keys.Stale},
		"kubeconfig broken": {func(e *testExtender, _ *lower.Watch) {
			delete(e.clusters, "a")
			e.brokenCluster("a", "no such user")
		}, keys.NotSynced},
		"cluster has left": {func(e *testExtender, _ *lower.Watch) { delete(e.clusters, "a") }, keys.NotSynced},
		"cluster is avoided": {func(e *testExtender, _ *lower.Watch) {
			entry := &wire.AvoidEntry{Owner: snapshot.OwnerOf(testPod("p", "1")), Cluster: "a"}
			e.avoid.entries.SetDefault(entry.Key(), entry)
		}, keys.Avoided},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			test.spoil(e, e.clusters["a"].watch)
			result := e.filterNames(t, testPod("p", "1"), "a", "real")
			if diff := cmp.Diff([]string{"real"}, *result.NodeNames); diff != "" {
				t.Errorf("passed:\n%s", diff)
			}
			if diff := cmp.Diff(extenderv1.FailedNodesMap{"a": text(test.reason)}, result.FailedAndUnresolvableNodes); diff != "" {
				t.Errorf("unresolvable:\n%s", diff)
			}
		})
	}
}

func TestFilterWithWholeNodes(t *testing.T) {
	e := newTestExtender(t)
	nodes := &corev1.NodeList{Items: []corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}},
	}}
	var result extenderv1.ExtenderFilterResult
	e.call(t, http.MethodPost, "/scheduler/filter", encode(t, extenderv1.ExtenderArgs{Pod: testPod("p", "6"), Nodes: nodes}), &result)
	if result.NodeNames != nil || len(result.Nodes.Items) != 1 || result.Nodes.Items[0].Name != "b" {
		t.Errorf("answer %+v", result)
	}
}

func TestPrioritizeFollowsTheListThatIsLeft(t *testing.T) {
	e := newTestExtender(t)
	pod := testPod("p", "3")
	e.filterNames(t, pod, "a", "b")
	for _, names := range [][]string{{"a", "b"}, {"b"}} {
		var list extenderv1.HostPriorityList
		e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names}), &list)
		if len(list) != len(names) || list[0].Host != names[0] || list[0].Score != 10 {
			t.Errorf("%v: %+v", names, list)
		}
		if len(list) > 1 && list[1].Score > 1 {
			t.Errorf("the second best has %d points", list[1].Score)
		}
		if hold := e.pool.Hold(pod.UID); hold.Cluster != names[0] {
			t.Errorf("%v: the hold is in %s", names, hold.Cluster)
		}
	}
}

func TestOverpromiseCountsOnceAPod(t *testing.T) {
	e := newTestExtender(t)
	stuck := map[types.UID]*snapshot.LowerPod{"uid-p": {UpperUID: "uid-p", Unschedulable: true}}
	for range 2 {
		e.publish(snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "2")}, Own: stuck, Pods: 1}))
		e.mu.Lock()
		e.pool.Forget("a") // Its kubeconfig is replaced.
		e.mu.Unlock()
	}
	if got := testutil.ToFloat64(e.metrics.overpromise.WithLabelValues("a")); got != 1 {
		t.Errorf("counted %v times", got)
	}
}

func TestWaitingPodsAreWokenAsManyAsFit(t *testing.T) {
	e := newTestExtender(t)
	for _, name := range []string{"p", "q", "r"} {
		if got := *e.filterNames(t, testPod(name, "9"), "a", "b").NodeNames; len(got) != 0 {
			t.Fatalf("%s fits on %v", name, got)
		}
	}
	if pods := e.fitNow(t.Context(), time.Now()); len(pods) != 0 {
		t.Fatalf("%d pods woken without room", len(pods))
	}
	e.publish(snapshot.New(snapshot.Content{Cluster: "b", Nodes: []*snapshot.Node{lowerNode("b1", "18")}}))
	now := time.Now()
	if pods := e.fitNow(t.Context(), now); len(pods) != 2 {
		t.Errorf("%d pods woken, room is for 2", len(pods))
	}
	if pods := e.fitNow(t.Context(), now.Add(wakeAgain/2)); len(pods) != 0 {
		t.Errorf("%d pods woken again at once", len(pods))
	}
	if len(e.pool.Holds()) != 0 {
		t.Error("asking who fits left holds behind")
	}
}
