package pods

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

func translated(t *testing.T, upper *corev1.Pod) *corev1.Pod {
	t.Helper()
	lower, err := translate.LowerPod(upper, translate.Target{VirtualNode: "v", Identity: "identity"})
	if err != nil {
		t.Fatal(err)
	}
	stamp(lower)
	return lower
}

// The sum changes with what may change below, and with nothing else.
func TestStamp(t *testing.T) {
	t.Parallel()
	sum := func(change ...func(*corev1.Pod)) string {
		return translated(t, upperPod("1", change...)).Annotations[keys.UpperSum]
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := upperPod("1")
			if c.before != nil {
				c.before(before)
			}
			b := newBed(t, nil, nil)
			lower := translated(t, before)
			lower.UID = "below"
			lower.Labels["added-below"] = "stays"
			created, _ := b.lower.CoreV1().Pods("ns").Create(t.Context(), lower, metav1.CreateOptions{})
			upper := upperPod("1", c.after)
			if err := b.bringDown(t.Context(), upper, created, &memory{sent: before}); err != nil {
				t.Fatal(err)
			}
			got, _ := b.lower.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
			want := translated(t, upper)
			want.Labels["added-below"] = "stays"
			for what, pair := range map[string][2]any{
				"labels": {want.Labels, got.Labels}, "annotations": {want.Annotations, got.Annotations}, "spec": {want.Spec, got.Spec},
			} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
			}
		})
	}
}

// What the lower cluster's own admission made of the pod is not fought over.
func TestAdmissionBelowIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil, nil)
	lower := translated(t, upperPod("1"))
	lower.Spec.Containers[0].Image = "mirror/one"
	if err := b.bringDown(t.Context(), upperPod("1"), lower, &memory{}); err != nil {
		t.Fatal(err)
	}
	if got := calls(b.lower); got != nil {
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
	b := newBed(t, nil, []runtime.Object{lower})
	b.lower.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("image not trusted"))
	})
	memory := &memory{unwanted: map[change]unwanted{}}
	for i, c := range []struct{ tries, events int }{{1, 1}, {0, 1}} {
		if err := b.bringDown(t.Context(), image("bad"), lower, memory); err != nil {
			t.Fatal(err)
		}
		if got := calls(b.lower); len(got) != c.tries || len(b.events.Events) != c.events {
			t.Errorf("round %d: tried %v, %d events", i+1, got, len(b.events.Events))
		}
	}
	if err := b.bringDown(t.Context(), image("better"), lower, memory); err != nil {
		t.Fatal(err)
	}
	if got := calls(b.lower); len(got) != 1 {
		t.Errorf("another change: tried %v", got)
	}
	if err := b.bringDown(t.Context(), upperPod("1"), lower, memory); err != nil || len(memory.unwanted) != 0 {
		t.Errorf("taken back above: %v, still refused: %v", err, memory.unwanted)
	}
}
