package extender

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// lowerObject is a lower node of so many CPUs, with the label pool.
func lowerObject(name, pool, cpu string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": pool}},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu), "pods": resource.MustParse("110")},
		},
	}
}

// show publishes cluster b as one node of 8 CPUs with these pods on it.
func (e *testExtender) show(namespaces snapshot.Namespaces, pods ...*corev1.Pod) {
	var lower []*snapshot.LowerPod
	for _, pod := range pods {
		pod.Spec.NodeName = "b1"
		lower = append(lower, snapshot.NewLowerPod(pod, "test"))
	}
	e.publish(snapshot.Of("b", []*corev1.Node{lowerObject("b1", "x", "8")}, lower, namespaces))
}

// ruled gives a virtual node rules.
func (e *testExtender) ruled(t *testing.T, name string, rules translate.Rules) {
	t.Helper()
	node := e.upper.node(name).DeepCopy()
	if err := rules.Write(node); err != nil {
		t.Fatal(err)
	}
	e.addNode(t, node)
}

// reason is why the virtual node refuses the pod, "" if it takes it.
func (e *testExtender) reason(t *testing.T, pod *corev1.Pod, node string) string {
	t.Helper()
	return e.filterNames(t, pod, node).FailedAndUnresolvableNodes[node]
}

func TestNamesOfOthersBelow(t *testing.T) {
	foreign := map[string]string{}
	cases := map[string]struct {
		namespace map[string]string // labels of ns below; nil: it is not there
		pod       string            // name of a foreign pod in ns
		rules     translate.Rules
		want      keys.Reason
	}{
		"nothing there":               {},
		"a foreign pod":               {pod: "p", want: keys.NameConflict},
		"a foreign pod of other name": {pod: "q"},
		"a foreign pod elsewhere":     {pod: "p", rules: translate.Rules{NamespacePrefix: "upper-"}},
		"our namespace":               {namespace: map[string]string{keys.Upper: "test"}},
		"a foreign namespace":         {namespace: foreign, want: keys.NameConflict},
		"one of another upper":        {namespace: map[string]string{keys.Upper: "other"}, want: keys.NameConflict},
		"open to us":                  {namespace: map[string]string{keys.OpenTo: "test"}},
		"open to any":                 {namespace: map[string]string{keys.OpenTo: "any"}},
		"open to another":             {namespace: map[string]string{keys.OpenTo: "other"}, want: keys.NameConflict},
		"opened by configuration":     {namespace: foreign, rules: translate.Rules{OpenNamespaces: []string{"ns"}}},
		"all opened":                  {namespace: foreign, rules: translate.Rules{OpenNamespaces: []string{"*"}}},
		"another opened":              {namespace: foreign, rules: translate.Rules{OpenNamespaces: []string{"shop"}}, want: keys.NameConflict},
		"foreign, but we have our own": {
			namespace: foreign, rules: translate.Rules{NamespacePrefix: "upper-"},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			e.ruled(t, "b", test.rules)
			namespaces := snapshot.Namespaces{}
			if test.namespace != nil {
				namespaces["ns"] = test.namespace
			}
			var pods []*corev1.Pod
			if test.pod != "" {
				pods = append(pods, testPod(test.pod, "1"))
			}
			e.show(namespaces, pods...)
			want := ""
			if test.want != "" {
				want = text(test.want)
			}
			if got := e.reason(t, testPod("p", "1"), "b"); got != want {
				t.Errorf("refused with %q, want %q", got, want)
			}
		})
	}
}

func TestAPodWhoseNameWasTakenIsWoken(t *testing.T) {
	e := newTestExtender(t)
	e.show(nil, testPod("p", "1"))
	if got := e.reason(t, testPod("p", "1"), "b"); got != text(keys.NameConflict) {
		t.Fatalf("refused with %q", got)
	}
	if pods := e.fitNow(t.Context(), time.Now()); len(pods) != 0 {
		t.Fatal("woken while its name is taken")
	}
	e.show(nil)
	if pods := e.fitNow(t.Context(), time.Now()); len(pods) != 1 {
		t.Errorf("%d pods are woken when the name is free", len(pods))
	}
}

// Whoever asks without a UID means any pod of that kind: there names do not matter.
func TestNamesDoNotMatterToWhatif(t *testing.T) {
	e := newTestExtender(t)
	e.show(nil, testPod("p", "1"))
	if answer := e.whatif(testPod("p", "1"), 1); !answer.Clusters[0].Fits {
		t.Errorf("%+v", answer)
	}
	asking := testPod("p", "1")
	asking.UID = ""
	if got := e.reason(t, asking, "b"); got != "" {
		t.Errorf("refused with %q", got)
	}
}

func TestANodeThatRefusedIsAvoided(t *testing.T) {
	e := newTestExtender(t)
	e.show(nil)
	ours := testPod("old", "2")
	ours.Labels, ours.Annotations = map[string]string{keys.Upper: "test"}, map[string]string{
		keys.UpperUID: "uid-old", keys.UpperNamespace: ours.Namespace, keys.UpperName: ours.Name,
	}
	ours.Status.Phase, ours.Status.Reason = corev1.PodFailed, "TopologyAffinityError"
	for range 2 {
		e.show(nil, ours)
	}
	if got := testutil.ToFloat64(e.metrics.refusals.WithLabelValues("b")); got != 1 {
		t.Errorf("%v refusals are counted", got)
	}
	if got := e.reason(t, testPod("like-it", "2"), "b"); got != text(keys.Avoided) {
		t.Errorf("a pod of the same shape is refused with %q", got)
	}
	if got := e.reason(t, testPod("other", "3"), "b"); got != "" {
		t.Errorf("a pod of another shape is refused with %q", got)
	}
	var cluster struct{ NodeList []struct{ Avoided int } }
	e.call(t, http.MethodGet, "/debug/clusters/b", "", &cluster)
	if cluster.NodeList[0].Avoided != 1 {
		t.Errorf("shown as %+v", cluster)
	}
	e.mu.Lock()
	e.pool.Expire(time.Now().Add(snapshot.AvoidRefusing))
	e.mu.Unlock()
	if pods := e.fitNow(t.Context(), time.Now()); len(pods) != 1 || pods[0].Name != "like-it" {
		t.Errorf("after a while %d pods are woken", len(pods))
	}
}

func TestRulesOfAVirtualNode(t *testing.T) {
	e := newTestExtender(t)
	e.publish(snapshot.Of("b", []*corev1.Node{lowerObject("b1", "x", "8"), lowerObject("b2", "y", "4")}, nil, nil))
	e.ruled(t, "b", translate.Rules{Nodes: "pool=y", Reserve: map[corev1.ResourceName]string{"cpu": "50%", "memory": "1Gi"}})
	powerful := testPod("powerful", "1")
	powerful.Spec.HostNetwork = true
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"more than takes part":             {testPod("p", "6"), text(keys.InsufficientCPU)},
		"into the reserve":                 {testPod("p", "3"), text(keys.InsufficientCPU)},
		"up to the reserve":                {testPod("p", "2"), ""},
		"with a power that is not allowed": {powerful, text(keys.NotAllowed)},
	} {
		if got := e.reason(t, test.pod, "b"); got != test.want {
			t.Errorf("a pod %s is refused with %q, want %q", name, got, test.want)
		}
	}
	var cluster wire.Cluster
	e.call(t, http.MethodGet, "/debug/clusters/b", "", &cluster)
	if diff := cmp.Diff(map[string]string{"cpu": "4", "pods": "110"}, cluster.Free); diff != "" || cluster.LargestHole["cpu"] != "4" || cluster.Nodes != 1 {
		t.Errorf("shown as %+v\n%s", cluster, diff)
	}
	e.pool.Release("uid-p")
	for _, c := range e.whatif(testPod("q", "500m"), 10).Clusters {
		if c.Name == "b" && c.Replicas != 4 {
			t.Errorf("beside the reserve there is room for 4 pods: %+v", c)
		}
	}
	if status := e.call(t, http.MethodPost, "/v1/holds", `{"requests":{"cpu":"3"},"owner":{"kind":"Job","namespace":"ns","name":"j"},`+
		`"cluster":"b","ttlSeconds":9}`, nil); status != http.StatusConflict {
		t.Errorf("a reservation of more than the reserve leaves: status %d", status)
	}
}

// One virtual node with rules that cannot be read is refused, and the others are not.
func TestBadRules(t *testing.T) {
	for name, rules := range map[string]string{
		"no JSON": "{", "a selector": `{"nodes":"pool in"}`, "a reserve": `{"reserve":{"cpu":"lots"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			node := e.upper.node("a").DeepCopy()
			node.Annotations = map[string]string{keys.Rules: rules}
			e.addNode(t, node)
			result := e.filterNames(t, testPod("p", "1"), "a", "b")
			if diff := cmp.Diff([]string{"b"}, *result.NodeNames); diff != "" {
				t.Error(diff)
			}
			if got := result.FailedAndUnresolvableNodes["a"]; got != text(keys.NodeAffinity) {
				t.Errorf("refused with %q", got)
			}
			e.call(t, http.MethodGet, "/debug/clusters/a", "", nil)
		})
	}
}

func TestUnaskedBinds(t *testing.T) {
	unmarked := testPod("agent", "1")
	delete(unmarked.Spec.Containers[0].Resources.Requests, keys.PodResource)
	daemon := testPod("daemon", "1")
	daemon.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "d", UID: "d", Controller: new(bool)}}
	*daemon.OwnerReferences[0].Controller = true
	on := func(pod *corev1.Pod, node string) *corev1.Pod {
		bound := pod.DeepCopy()
		bound.Spec.NodeName = node
		return bound
	}
	trimmed := func(pod *corev1.Pod) *corev1.Pod {
		kept, err := trimUpperPod(pod.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		return kept.(*corev1.Pod)
	}
	cases := map[string]struct {
		before, pod      *corev1.Pod
		spoil            func(*testing.T, *testExtender)
		marked, unmarked float64
	}{
		"not asked about":  {before: testPod("p", "1"), pod: on(testPod("p", "1"), "a"), marked: 1},
		"nodeName by hand": {pod: on(testPod("p", "1"), "a"), marked: 1},
		"without the marker": {
			before: trimmed(unmarked), pod: trimmed(on(unmarked, "a")), unmarked: 1,
		},
		"of a DaemonSet": {before: daemon, pod: on(daemon, "a"), unmarked: 1},
		"to a real node": {before: testPod("p", "1"), pod: on(testPod("p", "1"), "real")},
		"bound before":   {before: on(testPod("p", "1"), "a"), pod: on(testPod("p", "1"), "a")},
		"not bound":      {before: testPod("p", "1"), pod: testPod("p", "1")},
		"in the time of the start": {
			before: testPod("p", "1"), pod: on(testPod("p", "1"), "a"), spoil: func(_ *testing.T, e *testExtender) { e.ready.Store(false) },
		},
		"asked about": {before: testPod("p", "1"), pod: on(testPod("p", "1"), "a"), spoil: func(t *testing.T, e *testExtender) {
			e.filterNames(t, testPod("p", "1"), "a", "b")
		}},
		"asked about, and bound where the room is not held": {
			before: testPod("p", "1"), pod: on(testPod("p", "1"), "b"), spoil: func(t *testing.T, e *testExtender) {
				e.filterNames(t, testPod("p", "1"), "a", "b")
			},
		},
		"asked about, and the hold is over": {
			before: testPod("p", "1"), pod: on(testPod("p", "1"), "a"), spoil: func(t *testing.T, e *testExtender) {
				e.filterNames(t, testPod("p", "1"), "a", "b")
				e.pool.Release(types.UID("uid-p"))
			},
		},
		"asked about, and refused": {
			before: testPod("p", "9"), pod: on(testPod("p", "9"), "a"), marked: 1, spoil: func(t *testing.T, e *testExtender) {
				e.filterNames(t, testPod("p", "9"), "a", "b")
			},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			e := newTestExtender(t)
			if test.spoil != nil {
				test.spoil(t, e)
			}
			e.upper.noteBind(test.before, test.pod)
			e.upper.observe(test.pod, false)
			e.upper.noteBind(test.pod, test.pod)
			for kind, want := range map[string]float64{markedBind: test.marked, unmarkedBind: test.unmarked} {
				got := testutil.ToFloat64(e.metrics.unasked.WithLabelValues("a", kind)) + testutil.ToFloat64(e.metrics.unasked.WithLabelValues("b", kind))
				if got != want {
					t.Errorf("%s: counted %v, want %v", kind, got, want)
				}
			}
			var cluster wire.Cluster
			e.call(t, http.MethodGet, "/debug/clusters/a", "", &cluster)
			if last := cluster.LastUnaskedBind; cluster.UnaskedBinds != int(test.marked+test.unmarked) || (cluster.UnaskedBinds > 0) != (last == "ns/"+test.pod.Name) {
				t.Errorf("shown as %d, last %q", cluster.UnaskedBinds, last)
			}
		})
	}
}
