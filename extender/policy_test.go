package extender

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

func (e *testExtender) scores(t *testing.T, pod *corev1.Pod, names ...string) map[string]int64 {
	t.Helper()
	var list extenderv1.HostPriorityList
	e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names}), &list)
	scores := map[string]int64{}
	for _, one := range list {
		scores[one.Host] = one.Score
	}
	return scores
}

// TestPolicies: whether real or virtual nodes come first, and which cluster, is as the pod's policy and order have it; room is held where
// the pod will go.
func TestPolicies(t *testing.T) {
	all := []string{"real", "a", "b"}
	cases := map[string]struct {
		policy, order, answer string
		cpu                   string
		names, passed         []string
		scores                map[string]int64
		hold                  string // cluster
	}{
		"prefer: virtual nodes first": {keys.PolicyPrefer, "", answerAll, "1", all, all, map[string]int64{"real": 0, "a": 10, "b": 1}, "a"},
		"prefer: full below":          {keys.PolicyPrefer, "", answerAll, "9", all, []string{"real"}, map[string]int64{"real": 0}, ""},
		"overflow: real nodes first":  {keys.PolicyOverflow, "", answerAll, "1", all, all, map[string]int64{"real": 10, "a": 0, "b": 0}, ""},
		"overflow: no real node takes it": {
			keys.PolicyOverflow, "", answerAll, "1", all[1:], all[1:], map[string]int64{"a": 10, "b": 1}, "a",
		},
		"overflow, best alone":              {keys.PolicyOverflow, "", answerBest, "1", all, []string{"real"}, map[string]int64{"real": 10}, ""},
		"overflow, best alone, virtual":     {keys.PolicyOverflow, "", answerBest, "1", all[1:], []string{"a"}, map[string]int64{"a": 10}, "a"},
		"an order":                          {keys.PolicyOnly, "b, a", answerAll, "1", all[1:], []string{"b", "a"}, map[string]int64{"b": 10, "a": 1}, "b"},
		"an order, best alone":              {keys.PolicyOnly, "b", answerBest, "1", all[1:], []string{"b"}, map[string]int64{"b": 10}, "b"},
		"the first has no room":             {keys.PolicyOnly, "a,b", answerAll, "6", all[1:], []string{"b"}, map[string]int64{"b": 10}, "b"},
		"an order of clusters that are not": {keys.PolicyOnly, "x,y", answerAll, "1", all[1:], all[1:], map[string]int64{"a": 10, "b": 1}, "a"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			e.config.FilterAnswer = test.answer
			pod := testPod("p", test.cpu)
			pod.Annotations = map[string]string{keys.Policy: test.policy, keys.ClusterOrder: test.order}
			passed := *e.filterNames(t, pod, test.names...).NodeNames
			if diff := cmp.Diff(test.passed, passed); diff != "" {
				t.Errorf("passed:\n%s", diff)
			}
			if diff := cmp.Diff(test.scores, e.scores(t, pod, passed...)); diff != "" {
				t.Errorf("scores:\n%s", diff)
			}
			hold := ""
			if h := e.pool.Hold(pod.UID); h != nil {
				hold = h.Cluster
			}
			if hold != test.hold {
				t.Errorf("room is held in %q, want %q", hold, test.hold)
			}
		})
	}
}

// TestFences: pods of a namespace go to virtual nodes that its annotation selects; to none if it cannot be read.
func TestFences(t *testing.T) {
	cases := map[string]struct {
		fence  string
		passed []string
	}{
		"a cluster":      {keys.Cluster + "=b", []string{"b"}},
		"not a cluster":  {keys.Cluster + "!=b", []string{"a"}},
		"several":        {keys.Cluster + " in (a, b)", []string{"a", "b"}},
		"everything":     {"", []string{"a", "b"}},
		"a label":        {"team=red", []string{}},
		"cannot be read": {"=(", []string{}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Annotations: map[string]string{keys.Clusters: test.fence}}}
			if err := e.upper.namespaces.GetStore().Add(namespace); err != nil {
				t.Fatal(err)
			}
			result := e.filterNames(t, testPod("p", "1"), "a", "b")
			if diff := cmp.Diff(test.passed, *result.NodeNames); diff != "" {
				t.Error(diff)
			}
			for _, why := range result.FailedAndUnresolvableNodes {
				if why != text(keys.Fenced) {
					t.Errorf("reason %q", why)
				}
			}
		})
	}
}
