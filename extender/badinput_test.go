package extender

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// hugePod weighs more than 1 MB: as much as etcd takes, wherever a user can put it.
func hugePod(name, cpu string) *corev1.Pod {
	pod := testPod(name, cpu)
	pod.Labels, pod.Annotations = map[string]string{}, map[string]string{"note": strings.Repeat("x", 256<<10)}
	for i := range 2000 {
		pod.Labels[fmt.Sprint("label-", i)] = strings.Repeat("l", 63)
	}
	for i := range 5000 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("NAME_", i), Value: strings.Repeat("v", 100)})
	}
	return pod
}

func TestAPodOfAMegabyteIsAPodAsAnyOther(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	pod := hugePod("p", "3")
	if size := len(encode(t, pod)); size < 1_000_000 {
		t.Fatalf("the pod has %d bytes", size)
	}
	if diff := cmp.Diff([]string{"a", "b"}, *e.filterNames(t, pod, "a", "b").NodeNames); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{}, *e.filterNames(t, hugePod("q", "9"), "a", "b").NodeNames); diff != "" {
		t.Error(diff)
	}
	var list extenderv1.HostPriorityList
	e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &[]string{"b", "a"}}), &list)
	if len(list) != 2 || list[0].Host != "a" || list[0].Score != extenderv1.MaxExtenderPriority {
		t.Errorf("%+v", list)
	}
	var what wire.Whatif
	if status := e.call(t, http.MethodPost, "/debug/whatif?replicas=3", encode(t, pod), &what); status != http.StatusOK || what.Fitting != 2 {
		t.Errorf("status %d, %d fit, there is room for 2", status, what.Fitting) // One beside the hold on a2.
	}
	var hold wire.Hold
	body := encode(t, map[string]any{"pod": hugePod("r", "1"), "cluster": "b", "ttlSeconds": 60})
	if status := e.call(t, http.MethodPost, "/v1/holds", body, &hold); status != http.StatusCreated || hold.Node != "b1" {
		t.Errorf("status %d, %+v", status, hold)
	}
}

// Every name of a request gets one answer, whatever it is and however often it comes.
func TestTenThousandNames(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprint("ghost-", i))
	}
	for range 3 {
		names = append(names, "a", "real", "b", "ghost-0", "../../etc", "a ", strings.Repeat("x", 10_000), "\x00\xff")
	}
	forms := map[string]func() extenderv1.ExtenderArgs{
		"names": func() extenderv1.ExtenderArgs { return extenderv1.ExtenderArgs{NodeNames: &names} },
		"whole nodes": func() extenderv1.ExtenderArgs {
			nodes := &corev1.NodeList{}
			for _, name := range names {
				nodes.Items = append(nodes.Items, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			return extenderv1.ExtenderArgs{Nodes: nodes}
		},
	}
	for form, make := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			e := newTestExtender(t)
			e.config.FilterDeadline.Duration = time.Minute // A busy machine is not what this is about.
			args := make()
			args.Pod = testPod("p", "6") // Room is on b1 alone.
			var result extenderv1.ExtenderFilterResult
			if status := e.call(t, http.MethodPost, "/scheduler/filter", encode(t, args), &result); status != http.StatusOK || result.Error != "" {
				t.Fatalf("status %d, error %q", status, result.Error)
			}
			if diff := cmp.Diff([]string{"b", "real"}, passed(&result)); diff != "" {
				t.Error(diff)
			}
			if got, want := result.FailedAndUnresolvableNodes["a"], text(keys.Fragmented); got != want {
				t.Errorf("a: %q, want %q", got, want)
			}
			delete(result.FailedAndUnresolvableNodes, "a")
			if got := len(result.FailedAndUnresolvableNodes); got != 10_004 || len(result.FailedNodes) != 0 {
				t.Errorf("%d names are not known, %d are resolvable", got, len(result.FailedNodes))
			}
			for name, reason := range result.FailedAndUnresolvableNodes {
				if reason != text(keys.NotSynced) {
					t.Errorf("%q: %s", name, reason)
				}
			}
			var list extenderv1.HostPriorityList
			e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, args), &list)
			if len(list) != 3 {
				t.Errorf("scores for %d nodes: %+v", len(list), list)
			}
		})
	}
}

// passed lists the names that a filter let through, in either form, sorted.
func passed(result *extenderv1.ExtenderFilterResult) []string {
	if result.NodeNames != nil {
		return slices.Sorted(slices.Values(*result.NodeNames))
	}
	var names []string
	for _, node := range result.Nodes.Items {
		names = append(names, node.Name)
	}
	slices.Sort(names)
	return names
}

// With both forms the names count, and the answer comes in the same form.
func TestBothFormsOfNodes(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	args := extenderv1.ExtenderArgs{
		Pod: testPod("p", "1"), NodeNames: &[]string{"b", "b"},
		Nodes: &corev1.NodeList{Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}},
	}
	var result extenderv1.ExtenderFilterResult
	e.call(t, http.MethodPost, "/scheduler/filter", encode(t, args), &result)
	if result.Nodes != nil || !slices.Equal(*result.NodeNames, []string{"b"}) {
		t.Errorf("%+v", result)
	}
}

// Amounts that no API server stores, or that overflow, are an error to the scheduler: no node is let through, nothing is
// held, and the error says which container asks for what.
func TestHostileAmounts(t *testing.T) {
	t.Parallel()
	for _, amount := range []string{"-1", "-1e30", "1e18", "1e30", "9223372036854775807", "2Pi"} {
		for _, name := range []corev1.ResourceName{"cpu", "memory", "example.com/gpu"} {
			t.Run(amount+" of "+string(name), func(t *testing.T) {
				t.Parallel()
				e := newTestExtender(t)
				pod := testPod("p", "1")
				pod.Spec.Containers[0].Resources.Requests[name] = resource.MustParse(amount)
				var result extenderv1.ExtenderFilterResult
				body := encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &[]string{"a", "real"}})
				if status := e.call(t, http.MethodPost, "/scheduler/filter", body, &result); status != http.StatusOK {
					t.Errorf("status %d", status)
				}
				if !strings.Contains(result.Error, `container "c"`) || !strings.Contains(result.Error, string(name)) || result.NodeNames != nil {
					t.Errorf("answer %+v", result)
				}
				if status := e.call(t, http.MethodPost, "/debug/whatif", encode(t, pod), nil); status != http.StatusBadRequest {
					t.Errorf("whatif: status %d", status)
				}
				if holds := e.pool.Holds(); len(holds) != 0 {
					t.Errorf("%d holds", len(holds))
				}
			})
		}
	}
}

// Nodes may say anything of themselves. What is negative or absurd takes no pod that asks for it, and does not make room
// elsewhere.
func TestHostileNodes(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	e.publish(snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "-1000"), lowerNode("a2", "0")}}))
	e.publish(snapshot.New(snapshot.Content{Cluster: "b"}))
	if got := e.filterNames(t, testPod("p", "1"), "a", "b"); len(*got.NodeNames) != 0 {
		t.Errorf("passed %v", *got.NodeNames)
	}
	if got := e.filterNames(t, testPod("q", ""), "a", "b"); !slices.Equal(*got.NodeNames, []string{"a"}) {
		t.Errorf("a pod that asks for nothing: %v", *got.NodeNames) // As kube-scheduler sees it.
	}
	for _, path := range []string{"/debug/clusters", "/debug/clusters/a", "/debug/fragmentation", "/metrics"} {
		if status := e.call(t, http.MethodGet, path, "", nil); status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

// A node vanishes with its pods and with the room that is held on it: the hold goes where there is room, and nothing is
// counted for a node that is not there.
func TestNodesVanishWithPodsAndHolds(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	e.filterNames(t, testPod("p", "4"), "a")
	e.publish(snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "4")}}))
	if hold := e.pool.Hold("uid-p"); hold == nil || hold.Node != "a1" {
		t.Errorf("the hold is %+v", hold)
	}
	e.publish(snapshot.New(snapshot.Content{Cluster: "a"}))
	if hold := e.pool.Hold("uid-p"); hold == nil || hold.Node != "" {
		t.Errorf("the hold is %+v", hold)
	}
	if got := e.filterNames(t, testPod("q", "1"), "a"); got.FailedAndUnresolvableNodes["a"] == "" {
		t.Errorf("a cluster without nodes takes a pod: %+v", got)
	}
	e.publish(snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a3", "4")}}))
	if got := e.filterNames(t, testPod("q", "1"), "a"); got.FailedAndUnresolvableNodes["a"] != text(keys.Held) {
		t.Errorf("the hold has lost its room: %+v", got)
	}
}

// Bytes that are no request at all: a verb answers 200 with an error, every other route 400 with one.
func TestBytesThatAreNoRequest(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"nested deeply":        `{"Pod":` + strings.Repeat("[", 100_000),
		"nested and closed":    `{"Pod":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
		"wrong types":          `{"Pod":7,"NodeNames":{"a":1},"pod":7,"cluster":[],"seconds":"x","spec":"none"}`,
		"binary":               "\x00\x01\xfe\xff\x7b",
		"cut off":              `{"Pod":{"metadata":{"name":"p"`,
		"just over the limit":  `{"a":"` + strings.Repeat("x", wire.LargestBody) + `"}`,
		"a number as no other": `{"Pod":{"spec":{"priority":1e999}},"spec":{"priority":1e999},"seconds":1e999,"ttlSeconds":1e999,"cluster":"a"}`,
	}
	e := newTestExtender(t)
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range []string{"filter", "bind"} {
				var result struct{ Error string }
				if status := e.call(t, http.MethodPost, "/scheduler/"+verb, body, &result); status != http.StatusOK || !strings.Contains(result.Error, "reading request") {
					t.Errorf("%s: status %d, %q", verb, status, result.Error)
				}
			}
			var list extenderv1.HostPriorityList
			if status := e.call(t, http.MethodPost, "/scheduler/prioritize", body, &list); status != http.StatusOK || len(list) != 0 {
				t.Errorf("prioritize: status %d, %v", status, list)
			}
			var result extenderv1.ExtenderPreemptionResult
			if status := e.call(t, http.MethodPost, "/scheduler/preempt", body, &result); status != http.StatusOK || len(result.NodeNameToMetaVictims) != 0 {
				t.Errorf("preempt: status %d, %v", status, result)
			}
			for _, path := range []string{"/debug/whatif", "/v1/holds", "/v1/avoid"} {
				var answer struct{ Error string }
				if status := e.call(t, http.MethodPost, path, body, &answer); status != http.StatusBadRequest || answer.Error == "" {
					t.Errorf("%s: status %d, %q", path, status, answer.Error)
				}
			}
		})
	}
}

// A client that hangs in the middle of its header or body keeps nobody else waiting.
func TestSlowClientsBlockNobody(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	starts := []string{
		"POST /scheduler/filter HTTP/1.1\r\nHost: x\r\nContent-Len",
		"POST /scheduler/filter HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"Pod\":",
		"POST /v1/holds HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{\"pod",
	}
	var slow []net.Conn
	for i := range 60 {
		client, err := net.Dial("tcp", e.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := io.WriteString(client, starts[i%len(starts)]); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, client)
	}
	for i := range 20 {
		for _, client := range slow { // One more byte each.
			if _, err := io.WriteString(client, "g"); err != nil {
				t.Fatal(err)
			}
		}
		pod := testPod(fmt.Sprint("p", i), "1m")
		if got := *e.filterNames(t, pod, "a", "b").NodeNames; len(got) != 2 {
			t.Errorf("passed %v", got)
		}
	}
	if holds := len(e.pool.Holds()); holds != 20 {
		t.Errorf("%d holds", holds)
	}
}

// A request that ends before its body does is answered if anybody still listens, and holds nothing.
func TestABodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	client, err := net.Dial("tcp", e.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	body := encode(t, extenderv1.ExtenderArgs{Pod: testPod("p", "1"), NodeNames: &[]string{"a"}})
	fmt.Fprintf(client, "POST /scheduler/filter HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body)+1, body)
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(client)
	if err != nil || !strings.Contains(string(answer), "cut off") {
		t.Errorf("answer %q, error %v", answer, err)
	}
	if holds := len(e.pool.Holds()); holds != 0 {
		t.Errorf("%d holds", holds)
	}
}

// Two hundred pods ask at the same moment for a hole that one of them fits into.
func TestOneHoleIsGivenOnce(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	e.config.FilterDeadline.Duration = time.Minute
	e.publish(snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "4"), lowerNode("a2", "3")}}))
	e.publish(snapshot.New(snapshot.Content{Cluster: "b", Nodes: []*snapshot.Node{lowerNode("b1", "3")}}))
	var accepted atomic.Int32
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range 200 {
		group.Go(func() {
			<-start
			result := e.filterNames(t, testPod(fmt.Sprint("p", i), "4"), "b", "a", "a")
			accepted.Add(int32(len(*result.NodeNames)))
		})
	}
	close(start)
	group.Wait()
	if holds := e.pool.Holds(); accepted.Load() != 1 || len(holds) != 1 || holds[0].Node != "a1" {
		t.Errorf("%d accepted, %d holds", accepted.Load(), len(holds))
	}
}

// While the view is not there, no longer fresh or from a time that has not come yet, nothing is accepted and nothing held,
// on whatever way it is asked for.
func TestNothingIsAcceptedBlindly(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		spoil  func(e *testExtender)
		reason keys.Reason
	}{
		"not ready": {func(e *testExtender) { e.ready.Store(false) }, keys.NotSynced},
		"stale": {func(e *testExtender) {
			e.clusters["a"].watch.SetHealth(lower.Health{Synced: true, Contact: time.Now().Add(-e.config.MaxViewAge.Duration - time.Second)})
		}, keys.Stale},
		"never heard of": {func(e *testExtender) { e.clusters["a"].watch.SetHealth(lower.Health{Synced: true}) }, keys.Stale},
		"not listed":     {func(e *testExtender) { e.clusters["a"].watch.SetHealth(lower.Health{Contact: time.Now()}) }, keys.NotSynced},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestExtender(t)
			test.spoil(e)
			pod := testPod("p", "1")
			result := e.filterNames(t, pod, "a", "real")
			want := extenderv1.FailedNodesMap{"a": text(test.reason)}
			if diff := cmp.Diff(want, result.FailedAndUnresolvableNodes); diff != "" || !slices.Equal(*result.NodeNames, []string{"real"}) {
				t.Errorf("passed %v\n%s", *result.NodeNames, diff)
			}
			var list extenderv1.HostPriorityList
			e.call(t, http.MethodPost, "/scheduler/prioritize", encode(t, extenderv1.ExtenderArgs{Pod: pod, NodeNames: &[]string{"a"}}), &list)
			if len(list) != 1 || list[0].Score != 0 {
				t.Errorf("%+v", list)
			}
			var what wire.Whatif
			e.call(t, http.MethodPost, "/debug/whatif", encode(t, pod), &what)
			fits := maps.Collect(func(yield func(string, bool) bool) {
				for _, c := range what.Clusters {
					yield(c.Name, c.Fits)
				}
			})
			if fits["a"] {
				t.Errorf("whatif: %+v", what)
			}
			if _, status := e.reserveCPU(t, "1", ""); status != http.StatusConflict {
				t.Errorf("a reservation: status %d", status)
			}
			if holds := e.pool.Holds(); len(holds) != 0 {
				t.Errorf("%d holds", len(holds))
			}
		})
	}
}

// The wall clock may jump by hours: what the extender measures by itself goes on as before. (Go compares times of one
// process by the monotonic clock, as long as nothing strips it.)
func TestTimesOfTheProcessAreMonotonic(t *testing.T) {
	t.Parallel()
	e := newTestExtender(t)
	e.filterNames(t, testPod("p", "1"), "a")
	e.reserveCPU(t, "1", "")
	for _, hold := range e.pool.Holds() {
		for what, moment := range map[string]time.Time{"since": hold.Since, "until": hold.Until} {
			if !moment.IsZero() && !strings.Contains(moment.String(), " m=") {
				t.Errorf("%s of a %s hold is a time of the wall clock alone: %s", what, hold.State, moment)
			}
		}
	}
	if when := e.clusters["a"].watch.Health().Contact; !strings.Contains(when.String(), " m=") {
		t.Errorf("the last contact is a time of the wall clock alone: %s", when)
	}
}

// The clocks of the scheduler and of the extender may differ by an hour, or ours jump. An old refusal does not end the offer
// that came after it, whenever the pod is seen again; one that is news does.
func TestAnOldRefusalEndsNoOffer(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run("the scheduler's clock is "+name, func(t *testing.T) {
			t.Parallel()
			e := newTestExtender(t)
			pod := testPod("p", "1")
			refusal := func(after time.Duration) []corev1.PodCondition {
				when := metav1.Time{Time: time.Now().Add(ahead + after).Truncate(time.Second)}
				return []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: when}}
			}
			pod.Status.Conditions = refusal(0)
			e.filterNames(t, pod, "a")
			e.upper.observe(pod, false) // The patch that has woken it, perhaps.
			if e.pool.Hold(pod.UID) == nil {
				t.Fatal("the offer has ended")
			}
			pod.Status.Conditions = refusal(2*time.Hour + time.Minute)
			e.upper.observe(pod, false)
			if e.pool.Hold(pod.UID) != nil {
				t.Error("the pod was refused and the offer stands")
			}
		})
	}
}
