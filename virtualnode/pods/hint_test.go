package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// extender answers like the extender's GET /v1/holds/UID.
func extender(t *testing.T, status int, body string, delay time.Duration) *hints.Hints {
	t.Helper()
	return hints.New(answering(t, status, body, delay), func(string) hints.Mode { return hints.Nominated }, time.Now)
}

func extenderAt(url string) *ask.Extender {
	return &ask.Extender{Daemon: &ask.Daemon{Name: "extender", URL: url, Timeout: hints.AskTimeout}}
}

// answering is an extender that answers every request in that way.
func answering(t *testing.T, status int, body string, delay time.Duration) *ask.Extender {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return extenderAt(server.URL)
}

func TestHint(t *testing.T) {
	t.Parallel()
	with, without := []string{"create pods", "patch pods/status", "patch pods"}, []string{"create pods"}
	cases := map[string]struct {
		status int
		body   string
		delay  time.Duration
		asked  bool // again, for as long as the patience lasts
		want   []string
	}{
		"a hold":                       {200, `{"cluster":"v","node":"n7","state":"bound"}`, 0, false, with},
		"a hold in another cluster":    {200, `{"cluster":"w","node":"n7"}`, 0, false, without},
		"no hold":                      {404, `{"error":"no hold of that UID"}`, 0, false, without},
		"an extender that is not well": {503, `{"error":"NotSynced"}`, 0, true, without},
		"nonsense":                     {200, `<html>`, 0, true, without},
		"an extender that hangs":       {200, `{"cluster":"v","node":"n7"}`, 5 * time.Second, true, without},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{upperPod("1")}, nil)
			b.Hints = extender(t, c.status, c.body, c.delay)
			b.sees(t)
			if c.asked {
				b.waits(t)
			}
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, calls(b.lower)); diff != "" {
				t.Fatalf("writes below: %s", diff)
			}
			b.sees(t)
			pod := b.podBelow("ns/p", nil)
			if pair.Gated(pod) {
				t.Error("the pod is still behind the gate")
			}
			if hinted := pod.Status.NominatedNodeName == "n7"; hinted != (len(c.want) > 1) {
				t.Errorf("nominatedNodeName is %q", pod.Status.NominatedNodeName)
			}
		})
	}
}

// A pod that was just created is written back as a whole, where the lower API server is no newer; what speaks against it is patched.
func TestHintWrittenWhole(t *testing.T) {
	t.Parallel()
	pods := corev1.Resource("pods")
	conflict, forbidden := apierrors.NewConflict(pods, "p", errors.New("changed")), apierrors.NewForbidden(pods, "p", errors.New("rbac"))
	for name, c := range map[string]struct {
		newer        bool
		status, spec error // of the writes as a whole
		want         []string
	}{
		"as it was answered":      {want: []string{"create pods", "update pods/status", "update pods"}},
		"a newer API server":      {newer: true, want: []string{"create pods", "patch pods/status", "patch pods"}},
		"changed after creation":  {status: conflict, want: []string{"create pods", "update pods/status", "patch pods/status", "update pods"}},
		"changed after the first": {spec: conflict, want: []string{"create pods", "update pods/status", "update pods", "patch pods"}},
		"only patches allowed": {
			status: forbidden, spec: forbidden,
			want: []string{"create pods", "update pods/status", "patch pods/status", "update pods", "patch pods"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{upperPod("1")}, nil)
			b.Known = func() bool { return !c.newer }
			b.Hints = extender(t, 200, `{"cluster":"v","node":"n7","state":"bound"}`, 0)
			b.lower.PrependReactor("update", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				err := map[string]error{"status": c.status, "": c.spec}[action.GetSubresource()]
				return err != nil, nil, err
			})
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, calls(b.lower)); diff != "" {
				t.Fatalf("writes below: %s", diff)
			}
			b.sees(t)
			if pod := b.podBelow("ns/p", nil); pair.Gated(pod) || pod.Status.NominatedNodeName != "n7" || pod.Annotations[keys.HintNode] != "n7" {
				t.Errorf("gated: %t, nominated for %q, %v", pair.Gated(pod), pod.Status.NominatedNodeName, pod.Annotations)
			}
		})
	}
}

// waits asks once, finds that nothing is created without an answer, and lets the patience pass.
func (b *bed) waits(t *testing.T) {
	t.Helper()
	memory := b.remember("ns/p", b.podAbove("ns/p"))
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, was := range []hints.Asking{
		{}, {Since: ago(0), Times: 100}, {Since: ago(time.Hour), Times: hints.Attempts - 2},
		{Since: ago(hints.Longest / 2), Heard: ago(hints.Patience / 2), Times: 100},
	} {
		memory.asking = was
		if err := b.step(t); err != nil {
			t.Fatal(err)
		}
		if got := calls(b.lower); len(got) > 0 {
			t.Fatalf("asked %d times since %v, and then: %v", was.Times, was.Since, got)
		}
	}
	memory.asking = hints.Asking{Since: time.Now().Add(-time.Hour), Times: hints.Attempts}
}

// An extender that has tried the patience of one pod is not waited for by the next, until it answers again.
func TestDeadExtender(t *testing.T) {
	t.Parallel()
	b := newBed(t, []runtime.Object{upperPod("1"), upperPod("2", func(p *corev1.Pod) { p.Name = "next" })}, nil)
	b.Hints = extender(t, 500, "", 0)
	b.sees(t)
	b.waits(t)
	for _, key := range []string{"ns/p", "ns/next"} {
		if _, err := b.reconcile(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"create pods"}, calls(b.lower)); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
}

// In strict mode the bind has written the hint into the pod: it is there when the extender is not.
func TestHintOfTheBind(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil, nil)
	b.Hints = extender(t, 503, "", 0)
	node, again := b.hints().Ask(t.Context(), upperPod("1", func(p *corev1.Pod) { p.Annotations = map[string]string{keys.HintNode: "n9"} }), &hints.Asking{})
	if node != "n9" || again > 0 {
		t.Errorf("hint %q, to be asked for again after %v", node, again)
	}
}

// A crash between creation and the end of the hint leaves a gated pod; the next process finishes it.
func TestInterruptedHint(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*hints.Hints{
		"hold still there": extender(t, 200, `{"cluster":"v","node":"n7"}`, 0),
		"hold gone":        extender(t, 404, `{}`, 0),
		"hints off now":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waiting := lowerPod("1", func(p *corev1.Pod) {
				p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "theirs"}, {Name: keys.HintGate}}
			})
			b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{waiting})
			b.Hints = h
			b.sees(t)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			calls(b.lower)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			for _, call := range calls(b.lower) {
				if call == "patch pods/status" {
					t.Error("while the cache lags the hint is given a second time")
				}
			}
			b.sees(t)
			if diff := cmp.Diff([]corev1.PodSchedulingGate{{Name: "theirs"}}, b.podBelow("ns/p", nil).Spec.SchedulingGates); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// hold is what the extender answers about a pod that has room on node n7 of cluster v.
const hold = `{"cluster":"v","node":"n7","state":"bound"}`

// hinted is a bed with one upper pod for each name, room held on n7 for all of them.
func hinted(t *testing.T, mode hints.Mode, names ...string) *bed {
	t.Helper()
	return hintedBy(t, hints.New(answering(t, 200, hold, 0), func(string) hints.Mode { return mode }, time.Now), names...)
}

func hintedBy(t *testing.T, by *hints.Hints, names ...string) *bed {
	t.Helper()
	var above []runtime.Object
	for _, name := range names {
		above = append(above, upperPod("uid-of-"+types.UID(name), func(p *corev1.Pod) {
			p.Name = name
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: theirs(),
			}}
		}))
	}
	b := newBed(t, above, nil)
	b.Hints = by
	b.lower.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		pod := action.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		pod.UID = types.UID("below-" + pod.Name) // An API server gives one, and giveHint remembers pods by it.
		return false, nil, nil
	})
	b.sees(t)
	return b
}

func theirs() []corev1.PreferredSchedulingTerm {
	return []corev1.PreferredSchedulingTerm{{Weight: 60, Preference: corev1.NodeSelectorTerm{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}},
	}}}
}

// goesBelow brings a pod in line and returns what it is below then and the writes that it took.
func (b *bed) goesBelow(t *testing.T, name string) (*corev1.Pod, []string) {
	t.Helper()
	if _, err := b.reconcile(t.Context(), "ns/"+name); err != nil {
		t.Fatal(err)
	}
	writes := calls(b.lower)
	pod, err := b.lower.CoreV1().Pods("ns").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("the pod is not below: %v", err)
	}
	if pair.Gated(pod) {
		t.Error("the pod is still behind the gate")
	}
	return pod, writes
}

// shows checks in which way a lower pod carries the hint, and that the user's own preference is still there.
func shows(t *testing.T, pod *corev1.Pod, want hints.Mode) {
	t.Helper()
	got := hints.Off
	affinity := pod.Spec.Affinity.NodeAffinity
	preferred, required := affinity.PreferredDuringSchedulingIgnoredDuringExecution, affinity.RequiredDuringSchedulingIgnoredDuringExecution
	switch {
	case pod.Status.NominatedNodeName == "n7":
		got = hints.Nominated
	case required != nil:
		got = hints.Required
	case len(preferred) > 1:
		got = hints.Preferred
	}
	if got != want {
		t.Errorf("the pod is hinted in the way %s, want %s", got, want)
	}
	if diff := cmp.Diff(theirs(), preferred[:1]); diff != "" {
		t.Errorf("the user's preference: %s", diff)
	}
}

func TestHintModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[hints.Mode][]string{
		hints.Nominated: {"create pods", "patch pods/status", "patch pods"},
		hints.Preferred: {"create pods"},
		hints.Required:  {"create pods"},
		hints.Off:       {"create pods"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := hinted(t, mode, "p")
			pod, writes := b.goesBelow(t, "p")
			if diff := cmp.Diff(want, writes); diff != "" {
				t.Errorf("writes below: %s", diff)
			}
			shows(t, pod, mode)
			given := 1.0
			if mode == hints.Off {
				given = 0
			}
			if got := testutil.ToFloat64(b.Metrics.hints.WithLabelValues("v", string(mode), "given")); got != given {
				t.Errorf("%v hints are counted as given, want %v", got, given)
			}

			b.sees(t)
			if _, writes := b.goesBelow(t, "p"); writes != nil {
				t.Errorf("the hint counts as a change to bring down: %v", writes)
			}
			upper := b.podAbove("ns/p").DeepCopy()
			upper.Labels["app"] = "changed"
			_ = b.Above.Update(upper)
			pod, writes = b.goesBelow(t, "p")
			if diff := cmp.Diff([]string{"patch pods"}, writes); diff != "" || pod.Labels["app"] != "changed" {
				t.Errorf("a change above: labels %v, writes %s", pod.Labels, diff)
			}
			shows(t, pod, mode)
		})
	}
}

// A gated pod that an earlier process left behind gets its hint in the mode that holds now.
func TestGatedPodsOfAnEarlierMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []hints.Mode{hints.Nominated, hints.Preferred, hints.Required, hints.Off} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			configured := hints.Nominated
			b := hintedBy(t, hints.New(answering(t, 200, hold, 0), func(string) hints.Mode { return configured }, time.Now), "p")
			b.lower.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, errors.New("connection refused")
			})
			if _, err := b.reconcile(t.Context(), "ns/p"); err == nil {
				t.Fatal("the interruption was not noticed")
			}
			b.lower.ReactionChain = b.lower.ReactionChain[1:]
			configured = mode
			b.sees(t)
			pod, _ := b.goesBelow(t, "p")
			shows(t, pod, mode)
		})
	}
}

// warnings counts what is logged as a warning.
type warnings struct {
	slog.Handler
	count int
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		w.count++
	}
	return nil
}

// Where the status may not be patched, the pod at hand and those after it get a preference, one warning in all, and
// nominated is tried again later.
func TestForbiddenStatusFallsBackToPreferred(t *testing.T) {
	t.Parallel()
	now := time.Now()
	nominated := func(string) hints.Mode { return hints.Nominated }
	b := hintedBy(t, hints.New(answering(t, 200, hold, 0), nominated, func() time.Time { return now }),
		"first", "second", "third", "fourth", "fifth")
	logged := &warnings{}
	b.Log = slog.New(logged)
	forbidden := true
	b.lower.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if forbidden && action.GetSubresource() == "status" {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods/status"}, "p", errors.New("RBAC"))
		}
		return false, nil, nil
	})
	tenMinutesPass := func() { now = now.Add(10*time.Minute + time.Second) }
	all := []string{"create pods", "patch pods/status", "patch pods"}
	for _, c := range []struct {
		name   string
		before func()
		mode   hints.Mode
		writes []string
	}{
		{"first", func() {}, hints.Preferred, all},
		{"second", func() {}, hints.Preferred, []string{"create pods"}},
		{"third", tenMinutesPass, hints.Preferred, all},
		{"fourth", func() { forbidden = false }, hints.Preferred, []string{"create pods"}},
		{"fifth", tenMinutesPass, hints.Nominated, all},
	} {
		c.before()
		pod, writes := b.goesBelow(t, c.name)
		if diff := cmp.Diff(c.writes, writes); diff != "" {
			t.Errorf("%s pod, writes below: %s", c.name, diff)
		}
		shows(t, pod, c.mode)
	}
	if logged.count != 1 {
		t.Errorf("%d warnings were logged, want one", logged.count)
	}
	for labels, want := range map[[2]string]float64{
		{"nominated", "refused"}: 2, {"nominated", "given"}: 1, {"preferred", "given"}: 4,
	} {
		if got := testutil.ToFloat64(b.Metrics.hints.WithLabelValues("v", labels[0], labels[1])); got != want {
			t.Errorf("%v is counted %v times, want %v", labels, got, want)
		}
	}
}

func TestInvalidStatusIsRememberedOfNoOtherPod(t *testing.T) {
	t.Parallel()
	b := hinted(t, hints.Nominated, "odd", "plain")
	b.lower.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.(clienttesting.PatchAction).GetName() == "odd" && action.GetSubresource() == "status" {
			return true, nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "odd", nil)
		}
		return false, nil, nil
	})
	odd, _ := b.goesBelow(t, "odd")
	shows(t, odd, hints.Preferred)
	plain, _ := b.goesBelow(t, "plain")
	shows(t, plain, hints.Nominated)
}

// A lower cluster that takes the hint in no way still gets the pod.
func TestPodGoesWithoutARefusedHint(t *testing.T) {
	t.Parallel()
	b := hinted(t, hints.Nominated, "p")
	refusals := 0
	b.lower.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		if refusals++; refusals > 2 {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("denied by a policy"))
	})
	pod, writes := b.goesBelow(t, "p")
	if diff := cmp.Diff([]string{"create pods", "patch pods/status", "patch pods", "patch pods"}, writes); diff != "" {
		t.Errorf("writes below: %s", diff)
	}
	shows(t, pod, hints.Off)
}

func TestOffAsksTheExtenderNothing(t *testing.T) {
	t.Parallel()
	asked := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) }))
	t.Cleanup(asked.Close)
	b := hintedBy(t, hints.New(extenderAt(asked.URL), func(string) hints.Mode { return hints.Off }, time.Now), "p")
	pod, _ := b.goesBelow(t, "p")
	shows(t, pod, hints.Off)
}

// Somebody else may change a gated pod's affinity too: what was read before that is not written over it.
func TestGatedPodThatChangedMeanwhileIsReadAgain(t *testing.T) {
	t.Parallel()
	waiting := lowerPod("1", func(p *corev1.Pod) {
		p.ResourceVersion = "7"
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: keys.HintGate}}
	})
	b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{waiting})
	b.Hints = hints.New(answering(t, 200, hold, 0), func(string) hints.Mode { return hints.Preferred }, time.Now)
	b.sees(t)
	changed := true
	b.lower.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := string(action.(clienttesting.PatchAction).GetPatch())
		if !strings.Contains(patch, `"resourceVersion":"7"`) || !strings.Contains(patch, `"uid":"below-1"`) {
			t.Errorf("the patch is not for the pod as it was read: %s", patch)
		}
		if changed {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "p", errors.New("changed"))
		}
		return false, nil, nil
	})
	if err := b.step(t); err != nil {
		t.Fatalf("the event of the change brings the pod back, so this is no failure: %v", err)
	}
	changed = false
	b.goesBelow(t, "p")
}
