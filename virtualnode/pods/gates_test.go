package pods

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

const gate corev1.PodConditionType = "lb.example.com/registered"

func gatedBy(pod *corev1.Pod) {
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
}

func gateSince(second int64, status corev1.ConditionStatus) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: gate, Status: status, LastTransitionTime: metav1.NewTime(time.Unix(second, 0)),
		})
	}
}

// Whoever set the condition of a readiness gate last is believed on both sides.
func TestReadinessGates(t *testing.T) {
	t.Parallel()
	yes, no := corev1.ConditionTrue, corev1.ConditionFalse
	none := func(*corev1.Pod) {}
	for name, c := range map[string]struct {
		upper, lower func(*corev1.Pod)
		want         corev1.ConditionStatus // on both sides
	}{
		"set by nobody":              {none, none, ""},
		"set above":                  {gateSince(5, yes), none, yes},
		"set below":                  {none, gateSince(5, yes), yes},
		"equal":                      {gateSince(5, yes), gateSince(5, yes), yes},
		"changed above":              {gateSince(9, no), gateSince(5, yes), no},
		"changed below":              {gateSince(5, yes), gateSince(9, no), no},
		"the same moment, not equal": {gateSince(5, yes), gateSince(5, no), yes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upper := upperPod("1", gatedBy, c.upper)
			lower := translated(t, upper)
			lower.UID = "below"
			c.lower(lower)
			b := newBed(t, []runtime.Object{upper}, []runtime.Object{lower})
			status := func(pod *corev1.Pod) corev1.ConditionStatus {
				if c := pair.Condition(pod, gate); c != nil {
					return c.Status
				}
				return ""
			}
			for range 2 {
				b.sees(t)
				if err := b.step(t); err != nil {
					t.Fatal(err)
				}
			}
			b.sees(t)
			above, below := b.podAbove("ns/p"), b.podBelow("ns/p", nil)
			if status(above) != c.want || status(below) != c.want {
				t.Errorf("above %q, below %q, want %q", status(above), status(below), c.want)
			}
			calls(b.upper)
			calls(b.lower)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if up, down := calls(b.upper), calls(b.lower); up != nil || down != nil {
				t.Errorf("both sides agree, and still there is written above %v and below %v", up, down)
			}
		})
	}
}

// Where the status of lower pods may not be patched, the owner is told once and nothing else stops.
func TestReadinessGatesForbidden(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", gatedBy, gateSince(5, corev1.ConditionTrue))
	lower := translated(t, upper)
	lower.Status.Phase = corev1.PodRunning
	b := newBed(t, []runtime.Object{upper}, []runtime.Object{lower})
	b.lower.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("no right"))
	})
	for range 3 {
		b.sees(t)
		if err := b.step(t); err != nil {
			t.Fatal(err)
		}
	}
	b.sees(t)
	if got := b.podAbove("ns/p").Status.Phase; got != corev1.PodRunning {
		t.Errorf("the status above is %s", got)
	}
	if n := len(b.events.Events); n != 1 {
		t.Errorf("%d events, want one", n)
	}
	if got := calls(b.lower); len(got) != 1 {
		t.Errorf("tried %d times at once: %v", len(got), got)
	}
}
