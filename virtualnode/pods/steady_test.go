package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// A pod to which nothing happens costs no call, neither a read nor a write, also where this process has just started.
func TestSteadyStateCostsNothing(t *testing.T) {
	t.Parallel()
	lower := translated(t, upperPod("1", gatedBy, debugged("shell")))
	onNode(lower)
	gateSince(5, corev1.ConditionTrue)(lower)
	debugged("shell")(lower)
	b := newBed(t, []runtime.Object{upperPod("1", gatedBy, debugged("shell"))}, []runtime.Object{lower})
	b.sees(t)
	if err := b.step(t); err != nil {
		t.Fatal(err)
	}
	b.sees(t)
	for _, again := range []string{"resync", "restart"} {
		b.upper.ClearActions()
		b.lower.ClearActions()
		if again == "restart" {
			b.forget("ns/p")
		}
		for range 2 {
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
		}
		if up, down := b.upper.Actions(), b.lower.Actions(); len(up)+len(down) > 0 {
			t.Errorf("%s: asked above %v, below %v", again, up, down)
		}
	}
}

// One change below is one write above, also where the upper cache is late to show that write.
func TestStatusIsWrittenOncePerChange(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", func(p *corev1.Pod) { p.ResourceVersion = "1" })
	lower := translated(t, upper)
	onNode(lower)
	b := newBed(t, []runtime.Object{upper}, []runtime.Object{lower})
	running := translate.UpperStatus(upper, lower, false)
	b.upper.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		after := upper.DeepCopy() // As an API server answers.
		after.Status = running
		after.Annotations = map[string]string{keys.LowerNode: "n1"}
		after.ResourceVersion = "2"
		return true, after, nil
	})
	_ = b.Above.Add(upper)
	_ = b.Below.Add(lower)
	for range 3 {
		if err := b.step(t); err != nil {
			t.Fatal(err)
		}
	}
	if got := calls(b.upper); len(got) != 1 {
		t.Errorf("written %v, want once", got)
	}
	older := upper.DeepCopy()
	older.ResourceVersion = "3" // Somebody else wrote meanwhile: the cache is right again.
	_ = b.Above.Update(older)
	if err := b.step(t); err != nil {
		t.Fatal(err)
	}
	if got := calls(b.upper); len(got) != 1 {
		t.Errorf("what the cache showed after another write was not taken for the truth: %v", got)
	}
}

// A creation whose answer was lost and whose upper pod changed meanwhile: the pod is adopted, and the change comes down.
func TestAdoptedPodIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	lower := translated(t, upperPod("1"))
	lower.UID = "below"
	changed := upperPod("1", func(p *corev1.Pod) { p.Labels["app"] = "b" })
	b := newBed(t, []runtime.Object{changed}, []runtime.Object{lower})
	_ = b.Above.Add(changed) // The cache of lower pods lags.
	if err := b.step(t); err != nil {
		t.Fatal(err)
	}
	b.sees(t)
	if err := b.step(t); err != nil {
		t.Fatal(err)
	}
	after, err := b.lower.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || after.Labels["app"] != "b" {
		t.Errorf("labels below %v, %v", after.Labels, err)
	}
}
