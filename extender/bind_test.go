package extender

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// bindTest is an extender in strict mode. Its API server answers a Binding with fails, or after all binds nothing.
type bindTest struct {
	*testExtender
	bindings []*corev1.Binding
	fails    error
	during   func() // while the API server has the Binding
}

func newBindTest(t *testing.T) *bindTest {
	t.Helper()
	b := &bindTest{testExtender: newTestExtender(t)}
	b.react("create", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		b.bindings = append(b.bindings, action.(clienttesting.CreateAction).GetObject().(*corev1.Binding))
		if b.during != nil {
			b.during()
		}
		return true, nil, b.fails
	})
	return b
}

func (b *bindTest) react(verb string, reaction clienttesting.ReactionFunc) {
	b.client.(*fake.Clientset).PrependReactor(verb, "pods", reaction)
}

// cached puts a pod into the cache, stored into the API server.
func (b *bindTest) cached(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := b.upper.pods.GetStore().Add(pod); err != nil {
		t.Fatal(err)
	}
}

func (b *bindTest) stored(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := b.client.(*fake.Clientset).Tracker().Add(pod); err != nil {
		t.Fatal(err)
	}
}

// offer holds room for the pod in cluster a, as Filter does for one of 3 CPUs. (Of claims nothing is known here.)
func (b *bindTest) offer(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	below, err := b.compile(pod, b.upper.node("a"))
	if err != nil {
		t.Fatal(err)
	}
	b.pool.Offer(time.Now(), pod.UID, infoOf(pod), below, b.pool.Judge("a", below, pod.UID))
}

// bindTo asks for a bind as kube-scheduler does, and returns the error of the answer.
func (b *bindTest) bindTo(t *testing.T, pod *corev1.Pod, node string) string {
	t.Helper()
	args := extenderv1.ExtenderBindingArgs{PodNamespace: pod.Namespace, PodName: pod.Name, PodUID: pod.UID, Node: node}
	var result extenderv1.ExtenderBindingResult
	if status := b.call(t, http.MethodPost, "/scheduler/bind", encode(t, args), &result); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	return result.Error
}

// held describes the hold of a pod: "bound a/a2", or "" without one.
func (b *bindTest) held(pod *corev1.Pod) string {
	hold := b.pool.Hold(pod.UID)
	if hold == nil {
		return ""
	}
	return string(hold.State) + " " + hold.Cluster + "/" + hold.Node
}

// claiming is a pod with a claim, which is past PreBind when it is bound.
func claiming(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	return pod
}

func ephemeral(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	return pod
}

func on(pod *corev1.Pod, node string) *corev1.Pod {
	pod.Spec.NodeName = node
	return pod
}

func avoiding(e *testExtender, cluster string, pod *corev1.Pod) {
	entry := &wire.AvoidEntry{Owner: snapshot.OwnerOf(pod), Cluster: cluster}
	e.avoid.entries.SetDefault(entry.Key(), entry)
}

func TestBind(t *testing.T) {
	t.Parallel()
	full := snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a1", "0")}})
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, "p", errors.New("it was bound before"))
	cases := map[string]struct {
		pod     *corev1.Pod
		node    string
		prepare func(t *testing.T, b *bindTest, pod *corev1.Pod)
		want    string // part of the error, "" where it binds
		unasked bool   // nothing is written
		hint    string
		held    string
		offered bool // room is held in cluster a before
	}{
		"after an offer, with its node as the hint": {pod: testPod("p", "3"), node: "a", offered: true, hint: "a2", held: "bound a/a2"},
		"without an offer":                          {pod: testPod("p", "3"), node: "a", hint: "a2", held: "bound a/a2"},
		"to another cluster than was offered":       {pod: testPod("p", "3"), node: "b", offered: true, hint: "b1", held: "bound b/b1"},
		"where there is no room any more": {
			pod: testPod("p", "3"), node: "a", offered: true, want: text(keys.InsufficientCPU), unasked: true,
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) { b.pool.Publish(time.Now(), full) },
		},
		"where there is no room, with a claim: the hold stays": {
			pod: claiming(testPod("p", "3")), node: "a", offered: true, hint: "a2", held: "bound a/a2",
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) {
				b.pool.Publish(time.Now(), snapshot.New(snapshot.Content{Cluster: "a", Nodes: []*snapshot.Node{lowerNode("a2", "1")}}))
			},
		},
		"where there is no room, with a claim and no offer": {
			pod: claiming(testPod("p", "3")), node: "a", held: "bound a/",
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) { b.pool.Publish(time.Now(), full) },
		},
		"where there is no room, with an ephemeral volume": {
			pod: ephemeral(testPod("p", "3")), node: "a", held: "bound a/",
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) { b.pool.Publish(time.Now(), full) },
		},
		"before the start is over": {
			pod: testPod("p", "3"), node: "a", want: text(keys.NotSynced), unasked: true,
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) { b.ready.Store(false) },
		},
		"before the start is over, with a claim": {
			pod: claiming(testPod("p", "3")), node: "a", hint: "a2", held: "bound a/a2",
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) { b.ready.Store(false) },
		},
		"refused while an earlier bind may still land: the hold stays firm": {
			pod: testPod("p", "3"), node: "a", offered: true, want: text(keys.NotSynced), unasked: true, held: "bound a/a2",
			prepare: func(_ *testing.T, b *bindTest, pod *corev1.Pod) {
				b.pool.Hold(pod.UID).State = snapshot.Bound
				b.ready.Store(false)
			},
		},
		"to a cluster not heard of": {
			pod: testPod("p", "3"), node: "a", offered: true, want: text(keys.Stale), unasked: true,
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) {
				b.clusters["a"].watch.SetHealth(lower.Health{Synced: true, Contact: time.Now().Add(-time.Hour)})
			},
		},
		"to an avoided cluster": {
			pod: testPod("p", "3"), node: "a", offered: true, want: text(keys.Avoided), unasked: true,
			prepare: func(_ *testing.T, b *bindTest, pod *corev1.Pod) { avoiding(b.testExtender, "a", pod) },
		},
		"to an avoided cluster, with a claim": {
			pod: claiming(testPod("p", "3")), node: "a", offered: true, hint: "a2", held: "bound a/a2",
			prepare: func(_ *testing.T, b *bindTest, pod *corev1.Pod) { avoiding(b.testExtender, "a", pod) },
		},
		"to a node nobody knows": {pod: testPod("p", "3"), node: "ghost", want: text(keys.NotSynced), unasked: true},
		"to a node nobody knows, with a claim": {
			pod: claiming(testPod("p", "3")), node: "ghost", offered: true, held: "offered a/a2",
		},
		"to a real node": {pod: testPod("p", "3"), node: "real", offered: true},
		"a pod that cannot be read": {
			pod: testPod("p", "3"), node: "a", want: text(keys.NodeAffinity), unasked: true,
			prepare: func(_ *testing.T, _ *bindTest, pod *corev1.Pod) {
				pod.Annotations = map[string]string{keys.Sealed: "{"}
			},
		},
		"a pod that cannot be read, with a claim": {
			pod: claiming(testPod("p", "3")), node: "a",
			prepare: func(_ *testing.T, _ *bindTest, pod *corev1.Pod) {
				pod.Annotations = map[string]string{keys.Sealed: "{"}
			},
		},
		"a pod bound there already": {pod: on(testPod("p", "3"), "a"), node: "a", unasked: true},
		"a pod bound elsewhere":     {pod: on(testPod("p", "3"), "b"), node: "a", want: "bound to b", unasked: true},
		"refused by the API server: the offer stays": {
			pod: testPod("p", "3"), node: "a", offered: true, want: "no such right", held: "offered a/a2",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = errors.New("no such right")
				b.stored(t, pod)
			},
		},
		"refused by the API server without an offer": {
			pod: testPod("p", "3"), node: "a", want: "no such right",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = errors.New("no such right")
				b.stored(t, pod)
			},
		},
		"refused by the API server, offered elsewhere": {
			pod: testPod("p", "3"), node: "b", offered: true, want: "no such right", held: "offered a/a2",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = errors.New("no such right")
				b.stored(t, pod)
			},
		},
		"refused by the API server for a real node: the offer stays": {
			pod: testPod("p", "3"), node: "real", offered: true, want: "no such right", held: "offered a/a2",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = errors.New("no such right")
				b.stored(t, pod)
			},
		},
		"a pod that has gone": {
			pod: testPod("p", "3"), node: "a", offered: true, want: "not found", held: "offered a/a2",
			prepare: func(_ *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, pod.Name)
			},
		},
		"a conflict with an earlier bind to the same node": {
			pod: testPod("p", "3"), node: "a", offered: true, hint: "a2", held: "bound a/a2",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = conflict
				b.stored(t, on(pod.DeepCopy(), "a"))
			},
		},
		"a conflict with a bind to another node": {
			pod: testPod("p", "3"), node: "a", offered: true, want: "bound before", held: "offered a/a2",
			prepare: func(t *testing.T, b *bindTest, pod *corev1.Pod) {
				b.fails = conflict
				b.stored(t, on(pod.DeepCopy(), "b"))
			},
		},
		"nobody says what became of it: the hold stays firm": {
			pod: testPod("p", "3"), node: "a", offered: true, want: "did not say", held: "bound a/a2",
			prepare: func(_ *testing.T, b *bindTest, _ *corev1.Pod) {
				b.fails = errors.New("connection reset")
				b.react("get", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("timeout") })
			},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBindTest(t)
			b.cached(t, test.pod)
			if test.offered {
				b.offer(t, test.pod)
			}
			if test.prepare != nil {
				test.prepare(t, b, test.pod)
			}
			got := b.bindTo(t, test.pod, test.node)
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("error %q, want %q", got, test.want)
			}
			if held := b.held(test.pod); held != test.held {
				t.Errorf("hold %q, want %q", held, test.held)
			}
			if asked := len(b.bindings) > 0; asked == test.unasked {
				t.Fatalf("%d Bindings written", len(b.bindings))
			}
			if len(b.bindings) > 0 && test.want == "" {
				checkBinding(t, b.bindings[0], test.pod, test.node, test.hint)
			}
		})
	}
}

func checkBinding(t *testing.T, binding *corev1.Binding, pod *corev1.Pod, node, hint string) {
	t.Helper()
	want := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	want.Namespace, want.Name, want.UID = pod.Namespace, pod.Name, pod.UID
	if hint != "" {
		want.Annotations = map[string]string{keys.HintNode: hint}
	}
	if diff := cmp.Diff(want, binding); diff != "" {
		t.Errorf("Binding:\n%s", diff)
	}
}

// The scheduler may know of a pod before our cache does.
func TestBindReadsThePodThatTheCacheLacks(t *testing.T) {
	t.Parallel()
	other := testPod("p", "3")
	other.UID = "another"
	ordinary := testPod("p", "3")
	ordinary.Spec.Containers[0].Resources.Requests = nil
	cases := map[string]struct {
		cached, stored *corev1.Pod
		want           string
	}{
		"not cached":                        {nil, testPod("p", "3"), ""},
		"an older pod of the name cached":   {other, testPod("p", "3"), ""},
		"another UID in the API server":     {nil, other, "its UID is"},
		"in neither":                        {nil, nil, "not found"},
		"a pod that is none of Tessera's":   {nil, ordinary, "not one of Tessera's"},
		"cached by its identity alone":      {ordinary, ordinary, "not one of Tessera's"},
		"an older pod cached, bound by now": {other, on(testPod("p", "3"), "a"), ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBindTest(t)
			if test.cached != nil {
				b.cached(t, test.cached)
			}
			if test.stored != nil {
				b.stored(t, test.stored)
			}
			got := b.bindTo(t, testPod("p", "3"), "a")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("error %q, want %q", got, test.want)
			}
		})
	}
}

func TestBindLeavesTheLockAndTheHoldAloneMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBindTest(t)
	pod := testPod("p", "3")
	b.cached(t, pod)
	b.filterNames(t, pod, "a", "b")
	b.during = func() { // A second scheduler asks, the clock runs, another pod comes.
		entry := &wire.AvoidEntry{Owner: snapshot.OwnerOf(pod), Cluster: "a"}
		b.avoid.entries.SetDefault(entry.Key(), entry)
		b.filterNames(t, pod, "a", "b")
		b.mu.Lock()
		b.pool.Expire(time.Now().Add(time.Hour))
		b.mu.Unlock()
		if got := *b.filterNames(t, testPod("q", "2"), "a").NodeNames; len(got) != 1 {
			t.Errorf("a2 has 1 CPU left and a1 two, but q gets %v", got)
		}
	}
	if got := b.bindTo(t, pod, "a"); got != "" {
		t.Fatal(got)
	}
	if held := b.held(pod); held != "bound a/a2" {
		t.Errorf("hold %q", held)
	}
	before := b.pool.Held("a", "a2")
	b.upper.observe(on(pod.DeepCopy(), "a"), false)
	if diff := cmp.Diff(before, b.pool.Held("a", "a2")); diff != "" || b.held(pod) != "bound a/a2" {
		t.Errorf("the event of the bind changed the hold to %q:\n%s", b.held(pod), diff)
	}
}

// What the pod's own events have said while the API server was asked is newer than its answer.
func TestBindThatFailsDoesNotUndoNewerEvents(t *testing.T) {
	t.Parallel()
	b := newBindTest(t)
	pod := testPod("p", "3")
	b.cached(t, pod)
	b.stored(t, pod)
	b.filterNames(t, pod, "a", "b")
	b.fails = errors.New("no such right")
	b.during = func() { b.upper.observe(on(pod.DeepCopy(), "b"), false) }
	if got := b.bindTo(t, pod, "a"); got == "" {
		t.Error("no error")
	}
	if held := b.held(pod); held != "bound b/b1" {
		t.Errorf("hold %q, the pod is bound to b", held)
	}
}

// kube-scheduler may try again while an earlier attempt still waits for the API server.
func TestBindsThatOverlapAndFailLeaveAnOffer(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int{"first fails first": {0, 1}, "second fails first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBindTest(t)
			pod := testPod("p", "3")
			b.filterNames(t, pod, "a", "b")
			var rooms []room
			for range order {
				r, err := b.takeRoom(time.Now(), pod, "a")
				if err != nil {
					t.Fatal(err)
				}
				rooms = append(rooms, r)
			}
			for _, i := range order {
				b.settleRoom(pod, rooms[i], errors.New("no such right"))
			}
			if held := b.held(pod); held != "offered a/a2" {
				t.Errorf("hold %q", held)
			}
		})
	}
}

func TestBindToAnotherClusterCountsAsAWrongGuess(t *testing.T) {
	t.Parallel()
	b := newBindTest(t)
	pod := testPod("p", "3")
	b.cached(t, pod)
	b.filterNames(t, pod, "a", "b")
	b.bindTo(t, pod, "b")
	b.upper.observe(on(pod.DeepCopy(), "b"), false)
	if got := testutil.ToFloat64(b.metrics.wrongGuess); got != 1 {
		t.Errorf("counted %v times", got)
	}
}

func TestBadBodiesOfBind(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"no JSON": "{", "empty": "", "null": "null", "wrong type": `{"PodName":7}`,
		"no node":      `{"PodName":"p","PodNamespace":"ns","PodUID":"u"}`,
		"no pod":       `{"Node":"a","PodNamespace":"ns","PodUID":"u"}`,
		"no namespace": `{"Node":"a","PodName":"p","PodUID":"u"}`,
		"no UID":       `{"Node":"a","PodName":"p","PodNamespace":"ns"}`,
		"10 MB":        `{"PodName":"` + strings.Repeat("x", 10<<20) + `"}`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var result extenderv1.ExtenderBindingResult
			if status := newTestExtender(t).call(t, http.MethodPost, "/scheduler/bind", body, &result); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			if !strings.Contains(result.Error, "reading request") {
				t.Errorf("error %q", result.Error)
			}
		})
	}
}
