package down

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pods/podtest"
)

// The pods of this package's tests.
var (
	upperPod, phase, deleting = podtest.UpperPod, podtest.Phase, podtest.Deleting
)

// to brings changes to an API server that is a map.
func to(below ...runtime.Object) (Changes, *fake.Clientset, *record.FakeRecorder) {
	client, events := fake.NewClientset(below...), record.NewFakeRecorder(10)
	target := func() translate.Target { return translate.Target{VirtualNode: "v", Identity: "identity"} }
	return Changes{Name: "v", Target: target, Lower: client.CoreV1(), Events: events}, client, events
}

func translated(t *testing.T, upper *corev1.Pod) *corev1.Pod {
	t.Helper()
	lower, err := translate.LowerPod(upper, translate.Target{VirtualNode: "v", Identity: "identity"})
	if err != nil {
		t.Fatal(err)
	}
	Stamp(lower)
	return lower
}

// The sum changes with what may change below, and with nothing else.
func TestStamp(t *testing.T) {
	t.Parallel()
	sum := func(change ...func(*corev1.Pod)) string {
		return noteOf(translated(t, upperPod("1", change...))).fields
	}
	base := sum()
	for name, change := range map[string]func(*corev1.Pod){
		"label":      func(p *corev1.Pod) { p.Labels["app"] = "b" },
		"annotation": func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} },
		"image":      func(p *corev1.Pod) { p.Spec.Containers[0].Image = "two" },
		"deadline":   func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64) },
		"toleration": func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "k"}} },
	} {
		if sum(change) == base {
			t.Errorf("a changed %s leaves the sum as it is", name)
		}
	}
	for name, change := range map[string]func(*corev1.Pod){
		"fact of ours": func(p *corev1.Pod) { p.Annotations = map[string]string{keys.LowerNode: "n"} },
		"status":       phase(corev1.PodRunning),
		"deletion":     deleting(30),
	} {
		if sum(change) != base {
			t.Errorf("a changed %s changes the sum", name)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	tolerates := func(names ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for _, name := range names {
				p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: name})
			}
		}
	}
	cases := map[string]struct{ before, after func(*corev1.Pod) }{
		"label":            {nil, func(p *corev1.Pod) { p.Labels["app"] = "b" }},
		"label taken away": {func(p *corev1.Pod) { p.Labels["old"] = "x" }, func(*corev1.Pod) {}},
		"annotation":       {nil, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }},
		"image":            {nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "two" }},
		"deadline":         {nil, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64) }},
		"toleration":       {tolerates("a"), tolerates("a", "b")},
	}
	for name, c := range cases {
		bringsDown := func(t *testing.T, remembers bool) {
			t.Parallel()
			before := upperPod("1")
			if c.before != nil {
				c.before(before)
			}
			memory := &Memory{}
			if remembers {
				memory.sent = before
			}
			changes, client, _ := to()
			lower := translated(t, before)
			lower.UID = "below"
			lower.Labels["added-below"] = "stays"
			created, _ := client.CoreV1().Pods("ns").Create(t.Context(), lower, metav1.CreateOptions{})
			upper := upperPod("1", c.after)
			if err := changes.BringDown(t.Context(), upper, created, memory); err != nil {
				t.Fatal(err)
			}
			got, _ := client.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
			want := translated(t, upper)
			want.Labels["added-below"] = "stays"
			for what, pair := range map[string][2]any{
				"labels": {want.Labels, got.Labels}, "annotations": {want.Annotations, got.Annotations}, "spec": {want.Spec, got.Spec},
			} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
			}
		}
		t.Run(name, func(t *testing.T) { bringsDown(t, true) })
		t.Run(name+" while virtualnode was away", func(t *testing.T) { bringsDown(t, false) })
	}
}

// What the lower cluster's own admission made of the pod is not fought over.
func TestAdmissionBelowIsLeftAlone(t *testing.T) {
	t.Parallel()
	changes, client, _ := to()
	lower := translated(t, upperPod("1"))
	lower.Spec.Containers[0].Image = "mirror/one"
	if err := changes.BringDown(t.Context(), upperPod("1"), lower, &Memory{}); err != nil {
		t.Fatal(err)
	}
	if got := client.Actions(); len(got) > 0 {
		t.Errorf("written below: %v", got)
	}
}

// A change that the lower cluster refuses is told above once, and tried again when it is another one.
func TestRefusedChange(t *testing.T) {
	t.Parallel()
	lower := translated(t, upperPod("1"))
	lower.UID = "below"
	image := func(name string) *corev1.Pod {
		return upperPod("1", func(p *corev1.Pod) { p.Spec.Containers[0].Image = name })
	}
	changes, client, events := to(lower)
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("image not trusted"))
	})
	memory := NewMemory()
	for i, c := range []struct{ tries, events int }{{1, 1}, {0, 1}} {
		if err := changes.BringDown(t.Context(), image("bad"), lower, &memory); err != nil {
			t.Fatal(err)
		}
		if got := client.Actions(); len(got) != c.tries || len(events.Events) != c.events {
			t.Errorf("round %d: tried %v, %d events", i+1, got, len(events.Events))
		}
		client.ClearActions()
	}
	if err := changes.BringDown(t.Context(), image("better"), lower, &memory); err != nil {
		t.Fatal(err)
	}
	if got := client.Actions(); len(got) != 1 {
		t.Errorf("another change: tried %v", got)
	}
	if err := changes.BringDown(t.Context(), upperPod("1"), lower, &memory); err != nil || len(memory.refused) != 0 {
		t.Errorf("taken back above: %v, still refused: %v", err, memory.refused)
	}
}

func TestSameBelow(t *testing.T) {
	t.Parallel()
	annotated := func(key string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, key, "new") }
	}
	for name, c := range map[string]struct {
		after *corev1.Pod
		want  bool
	}{
		"status":      {upperPod("1", phase(corev1.PodRunning)), true},
		"facts":       {upperPod("1", annotated(keys.LowerNode), annotated(keys.LowerIP)), true},
		"annotations": {upperPod("1", annotated("note")), false},
		"labels":      {upperPod("1", func(p *corev1.Pod) { p.Labels["app"] = "new" }), false},
		"image":       {upperPod("1", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "new" }), false},
		"generation":  {upperPod("1", func(p *corev1.Pod) { p.Generation++ }), false},
	} {
		if got := sameBelow(upperPod("1"), c.after); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if sameBelow(nil, upperPod("1")) {
		t.Error("a pod that was never brought down is the same")
	}
}

// tolerating is a toleration of a lost node for so many seconds; none is for ever.
func tolerating(key string, seconds ...int64) corev1.Toleration {
	t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	if len(seconds) > 0 {
		t.TolerationSeconds = &seconds[0]
	}
	return t
}

// What is to become of a pod whose cluster is lost says nothing of its lower node: the times do not travel down.
func TestTolerationTimesStayAbove(t *testing.T) {
	t.Parallel()
	made := func(tolerations ...corev1.Toleration) *corev1.Pod {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: tolerations}}
		Stamp(pod)
		return pod
	}
	before := made(tolerating(corev1.TaintNodeNotReady, 300))
	if after := made(tolerating(corev1.TaintNodeNotReady)); !cmp.Equal(before.Annotations, after.Annotations) {
		t.Error("another time counts as a change to bring down")
	}
	if after := made(tolerating(corev1.TaintNodeNotReady, 300), tolerating("more")); cmp.Equal(before.Annotations, after.Annotations) {
		t.Error("another toleration does not count as a change")
	}
	if *before.Spec.Tolerations[0].TolerationSeconds != 300 {
		t.Error("the pod to be created lost its time")
	}
}
