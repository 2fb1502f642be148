package pods

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

func controlledBy(kind string, uid types.UID) func(*corev1.Pod) {
	yes := true
	return func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "owner", UID: uid, Controller: &yes}}
	}
}

func enabled(value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Labels[keys.Enabled] = value }
}

// Who may run below: the pod came through admission, and it or its namespace has opted in.
func TestWelcome(t *testing.T) {
	t.Parallel()
	yes, no := map[string]string{keys.Enabled: "true"}, map[string]string{}
	daemon := controlledBy("DaemonSet", "d")
	for name, c := range map[string]struct {
		pod       []func(*corev1.Pod)
		namespace map[string]string
		accept    bool
		reason    string // "" is welcome
	}{
		"marked, namespace opted in":                {nil, yes, false, ""},
		"marked by hand, namespace not opted in":    {nil, no, false, reasonNotAdmitted},
		"marked, pod opted in":                      {[]func(*corev1.Pod){enabled("true")}, no, false, ""},
		"marked, pod opted in, namespace opted out": {[]func(*corev1.Pod){enabled("true")}, map[string]string{keys.Enabled: "false"}, false, reasonNotAdmitted},
		"marked by hand, pod opted out":             {[]func(*corev1.Pod){enabled("false")}, yes, false, reasonNotAdmitted},
		"without the mark":                          {[]func(*corev1.Pod){unmarked}, yes, false, reasonNotAdmitted},
		"without the mark, accepted":                {[]func(*corev1.Pod){unmarked}, yes, true, ""},
		"without the mark, accepted, not opted in":  {[]func(*corev1.Pod){unmarked}, no, true, reasonNotAdmitted},
		"DaemonSet":                                 {[]func(*corev1.Pod){unmarked, daemon}, yes, false, reasonDaemonSet},
		"DaemonSet of a namespace not opted in":     {[]func(*corev1.Pod){unmarked, daemon}, no, false, reasonDaemonSet},
		"DaemonSet, marked by hand":                 {[]func(*corev1.Pod){daemon}, yes, false, reasonDaemonSet},
		"DaemonSet, accepted":                       {[]func(*corev1.Pod){unmarked, daemon}, yes, true, ""},
		"DaemonSet, accepted, but not its creation": {[]func(*corev1.Pod){unmarked, daemon, enabled("false")}, yes, true, reasonNotAdmitted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: c.namespace}}
			b := newBed(t, []runtime.Object{upperPod("1", c.pod...), namespace}, nil)
			b.Namespaces, b.AcceptUnasked = namespacesAbove(t, c.namespace), c.accept
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			created := strings.Contains(strings.Join(calls(b.lower), " "), "create pods")
			b.sees(t)
			pod := b.podAbove("ns/p")
			if created != (c.reason == "") || pod.Status.Reason != c.reason {
				t.Errorf("created below: %t; above %s %q, want %q", created, pod.Status.Phase, pod.Status.Reason, c.reason)
			}
		})
	}
}

// A pod that its namespace keeps off this virtual node is not created, and says why: it is to be moved.
func TestFence(t *testing.T) {
	t.Parallel()
	for fence, created := range map[string]bool{keys.Cluster + "=v": true, keys.Cluster + "=w": false, "=(": false, "": true} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "ns", Labels: map[string]string{keys.Enabled: "true"}, Annotations: map[string]string{keys.Clusters: fence},
		}}
		b := newBed(t, []runtime.Object{upperPod("1"), namespace}, nil)
		b.Namespaces = namespacesOf(t, namespace)
		b.Target = func() translate.Target {
			return translate.Target{VirtualNode: "v", Identity: "identity", Labels: map[string]string{keys.Cluster: "v"}}
		}
		b.sees(t)
		_ = b.step(t)
		if got := strings.Contains(strings.Join(calls(b.lower), " "), "create pods"); got != created {
			t.Errorf("%q: created below: %t", fence, got)
		}
		b.sees(t)
		if placed := pair.Condition(b.podAbove("ns/p"), keys.LowerPlaced); !created && (placed == nil || placed.Reason != string(keys.Fenced)) {
			t.Errorf("%q: %+v", fence, placed)
		}
	}
}

// A namespace that the cache does not have opted in may have opted in a moment ago.
func TestOptInIsConfirmed(t *testing.T) {
	t.Parallel()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{keys.Enabled: "true"}}}
	b := newBed(t, []runtime.Object{upperPod("1"), namespace}, nil)
	b.Namespaces = namespacesAbove(t, nil)
	b.sees(t)
	again, err := b.reconcile(t.Context(), "ns/p")
	if got := calls(b.upper); err != nil || again == 0 || got != nil {
		t.Errorf("again %s, %v, written %v", again, err, got)
	}
}

// The first pod of a controller fails at once. The next ones wait, and say what for.
func TestRefusalsOfOneController(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil, nil)
		for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			if got := b.refused(t, "a"); got != want*time.Second {
				t.Errorf("pod %d waited %s, want %s", i+1, got, want*time.Second)
			}
		}
		if got := b.refused(t, "b"); got != 0 {
			t.Errorf("the first pod of another controller waited %s", got)
		}
		<-time.After(2*stormLongest + time.Second)
		if got := b.refused(t, "a"); got != 0 {
			t.Errorf("after a long quiet time a pod waited %s", got)
		}
	})
}

// refused makes the next pod of a controller and returns how long it waits until it fails.
func (b *bed) refused(t *testing.T, owner types.UID) time.Duration {
	t.Helper()
	b.Events = record.NewFakeRecorder(10) // It takes no more than these.
	b.forget("ns/p")
	pod := upperPod(owner+"-pod", unmarked, controlledBy("ReplicaSet", owner))
	_ = b.upper.CoreV1().Pods("ns").Delete(t.Context(), "p", metav1.DeleteOptions{})
	if _, err := b.upper.CoreV1().Pods("ns").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 5 {
		b.sees(t)
		again, err := b.reconcile(t.Context(), "ns/p")
		if err != nil {
			t.Fatal(err)
		}
		b.sees(t)
		now := b.podAbove("ns/p")
		if now.Status.Phase == corev1.PodFailed {
			return time.Since(begin)
		}
		if c := pair.Condition(now, keys.LowerPlaced); c == nil || c.Reason != reasonNotAdmitted || !strings.Contains(c.Message, "not failed yet") {
			t.Fatalf("a pod that waits says %+v", c)
		}
		<-time.After(again)
	}
	t.Fatal("the pod does not fail")
	return 0
}
