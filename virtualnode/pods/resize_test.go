package pods

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

func cpus(amount string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(amount)
	}
}

// resizing is a pod that is running on both sides and then asks for two CPUs above.
func resizing(t *testing.T, change ...func(lower *corev1.Pod)) *bed {
	t.Helper()
	lower := translated(t, upperPod("1"))
	lower.UID, lower.Status.Phase = "below", corev1.PodRunning
	for _, c := range change {
		c(lower)
	}
	b := newBed(t, []runtime.Object{upperPod("1", cpus("2"), phase(corev1.PodRunning))}, []runtime.Object{lower})
	b.sees(t)
	return b
}

func TestResize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lower func(*corev1.Pod)
		want  []string
	}{
		"as it was created":             {func(*corev1.Pod) {}, []string{"patch pods/resize", "patch pods"}},
		"enlarged by a lower admission": {cpus("3"), []string{"patch pods/resize", "patch pods"}},
		"that size already":             {cpus("2"), []string{"patch pods"}},
		"whose note is lost":            {func(p *corev1.Pod) { delete(p.Annotations, keys.BroughtDown) }, []string{"patch pods"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := resizing(t, c.lower)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, calls(b.lower)); diff != "" {
				t.Errorf("writes below: %s", diff)
			}
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if got := calls(b.lower); got != nil {
				t.Errorf("all is below, and still there is written: %v", got)
			}
			got := b.podBelow("ns/p", nil).Spec.Containers[0].Resources.Requests.Cpu().String()
			if want := map[bool]string{true: "2", false: "1"}[name != "whose note is lost"]; got != want {
				t.Errorf("%s CPUs below, want %s", got, want)
			}
		})
	}
}

// A resize that is refused below is shown above, stops nothing else and is not tried again at once.
func TestRefusedResize(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	for name, refusal := range map[string]error{
		"quota":                 apierrors.NewForbidden(pods, "p", errors.New("exceeded quota")),
		"invalid":               apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil),
		"no such subresource":   apierrors.NewGenericServerResponse(404, "PATCH", pods, "p", "404 page not found", 0, true),
		"not for this resource": apierrors.NewMethodNotSupported(pods, "patch"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := resizing(t)
			b.lower.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				return action.GetSubresource() == "resize", nil, refusal
			})
			tries := 0
			for range 3 {
				if err := b.step(t); err != nil {
					t.Fatal(err)
				}
				tries += strings.Count(strings.Join(calls(b.lower), " "), "pods/resize")
				b.sees(t)
			}
			if tries != 1 || len(b.events.Events) != 1 {
				t.Errorf("tried %d times, %d events, want one of both", tries, len(b.events.Events))
			}
			pod := b.podAbove("ns/p")
			shown := pair.Condition(pod, corev1.PodResizePending)
			if shown == nil || shown.Reason != corev1.PodReasonInfeasible || !strings.Contains(shown.Message, refusal.Error()) {
				t.Errorf("shown above: %+v", shown)
			}
			calls(b.upper)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if got := calls(b.upper); got != nil {
				t.Errorf("the same is written again: %v", got)
			}
			withdrawn := pod.DeepCopy()
			cpus("1")(withdrawn)
			_, _ = b.upper.CoreV1().Pods("ns").Update(t.Context(), withdrawn, metav1.UpdateOptions{})
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			b.sees(t)
			if shown := pair.Condition(b.podAbove("ns/p"), corev1.PodResizePending); shown != nil {
				t.Errorf("withdrawn above, and still shown: %+v", shown)
			}
		})
	}
}

// A lower API server that does not answer, or is asked to try again (its quota changed meanwhile), is asked again; that is no refusal.
func TestResizeInterrupted(t *testing.T) {
	t.Parallel()
	for name, interruption := range map[string]error{
		"no answer": errors.New("connection refused"),
		"conflict":  apierrors.NewConflict(schema.GroupResource{Resource: "resourcequotas"}, "q", errors.New("modified")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := resizing(t)
			b.lower.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				return action.GetSubresource() == "resize", nil, interruption
			})
			for range 2 {
				if b.step(t) == nil {
					t.Error("taken for done")
				}
			}
			if n := len(b.events.Events); n != 0 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// A lower pod whose notes somebody takes away is brought in line again, although nothing changes above.
func TestLostNotesAreMadeUpFor(t *testing.T) {
	t.Parallel()
	lower := translated(t, upperPod("1"))
	onNode(lower)
	b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{lower})
	b.sees(t)
	for range 2 {
		if err := b.step(t); err != nil {
			t.Fatal(err)
		}
		b.sees(t)
	}
	without := b.podBelow("ns/p", nil).DeepCopy()
	delete(without.Annotations, keys.BroughtDown)
	without.Labels["app"] = "theirs"
	_, _ = b.lower.CoreV1().Pods("ns").Update(t.Context(), without, metav1.UpdateOptions{})
	b.sees(t)
	if err := b.step(t); err != nil {
		t.Fatal(err)
	}
	b.sees(t)
	if got := b.podBelow("ns/p", nil); got.Labels["app"] != "a" || got.Annotations[keys.BroughtDown] == "" {
		t.Errorf("below %v, %v", got.Labels, got.Annotations)
	}
}
