package pods

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
)

// translated is the lower pod that this reconciler makes of an upper one.
func translated(t *testing.T, upper *corev1.Pod) *corev1.Pod {
	t.Helper()
	lower, err := translate.LowerPod(upper, translate.Target{VirtualNode: "v", Identity: "identity"})
	if err != nil {
		t.Fatal(err)
	}
	down.Stamp(lower)
	return lower
}

// madeFrom is the pod below that this reconciler made from an upper pod.
func madeFrom(t *testing.T, upper *corev1.Pod, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	lower := translated(t, upper)
	lower.UID, lower.ResourceVersion, lower.Status.Phase = "below-"+upper.UID, "7", corev1.PodRunning
	for _, c := range change {
		c(lower)
	}
	return lower
}

func command(pod *corev1.Pod) { pod.Spec.Containers[0].Command = []string{"another"} }

func TestOrphans(t *testing.T) {
	t.Parallel()
	unbound := func(p *corev1.Pod) { p.Spec.NodeName = "" }
	elsewhere := func(p *corev1.Pod) { p.Spec.NodeName = "w" }
	cases := map[string]struct {
		upper        *corev1.Pod // at the API server, and in the cache if it is bound here
		lower        *corev1.Pod
		due          bool // it may be collected
		wantAbove    []string
		wantBelow    []string
		reason       string // of the condition LowerCreated
		wantUpperUID string // below, afterwards
	}{
		"within the grace":                  {nil, madeFrom(t, upperPod("1")), false, nil, nil, "", "1"},
		"after the grace":                   {nil, madeFrom(t, upperPod("1")), true, nil, []string{"delete pods"}, "", ""},
		"above it is not bound yet":         {upperPod("1", unbound), madeFrom(t, upperPod("1")), false, nil, nil, "", "1"},
		"above it is bound to another":      {upperPod("1", elsewhere), madeFrom(t, upperPod("1")), true, nil, []string{"delete pods"}, "", ""},
		"the name goes to another node":     {upperPod("2", elsewhere), madeFrom(t, upperPod("1")), false, nil, nil, "", "1"},
		"an equal one comes":                {upperPod("2"), madeFrom(t, upperPod("1")), false, nil, []string{"patch pods"}, "", "2"},
		"an equal one comes, grace over":    {upperPod("2"), madeFrom(t, upperPod("1")), true, nil, []string{"patch pods"}, "", "2"},
		"an older one of that name is back": {upperPod("2", phase(corev1.PodRunning)), madeFrom(t, upperPod("1")), false, nil, []string{"patch pods"}, "", "2"},
		"a different one comes":             {upperPod("2", command), madeFrom(t, upperPod("1")), false, []string{"patch pods/status"}, nil, string(reasonOrphan), "1"},
		"a different one comes, grace over": {upperPod("2", command), madeFrom(t, upperPod("1")), true, nil, []string{"delete pods"}, "", ""},
		"one comes that has finished":       {upperPod("2", phase(corev1.PodFailed)), madeFrom(t, upperPod("1")), false, nil, nil, "", "1"},
		"one comes past admission":          {upperPod("2", unmarked), madeFrom(t, upperPod("1")), false, nil, nil, "", "1"},
		"one comes that is being deleted":   {upperPod("2", deleting(30)), madeFrom(t, upperPod("1")), false, []string{"delete pods"}, nil, "", "1"},
		"it has finished and the name is":   {upperPod("2"), madeFrom(t, upperPod("1"), phase(corev1.PodSucceeded)), false, nil, []string{"delete pods"}, "", ""},
		"whose note is lost":                {upperPod("2"), madeFrom(t, upperPod("1"), func(p *corev1.Pod) { delete(p.Annotations, keys.BroughtDown) }), false, []string{"patch pods/status"}, nil, string(reasonOrphan), "1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var above []runtime.Object
			if c.upper != nil {
				above = append(above, c.upper)
			}
			b := newBed(t, above, []runtime.Object{c.lower})
			if c.upper != nil && c.upper.Spec.NodeName == "v" {
				_ = b.Above.Add(c.upper)
			}
			_ = b.Below.Add(c.lower)
			b.surveyAt(time.Now())
			if c.due {
				b.Orphans.Confirm(c.lower.UID)
				b.Orphans.Release()
			}
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.wantAbove, calls(b.upper)); diff != "" {
				t.Errorf("writes above: %s", diff)
			}
			if diff := cmp.Diff(c.wantBelow, calls(b.lower)); diff != "" {
				t.Errorf("writes below: %s", diff)
			}
			b.expectOwner(t, c.wantUpperUID)
			if c.upper != nil && len(c.wantAbove) > 0 && c.reason != "" {
				pod, _ := b.upper.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
				if got := pair.Condition(pod, keys.LowerPlaced); got == nil || got.Reason != c.reason {
					t.Errorf("condition %v, want %s", got, c.reason)
				}
			}
		})
	}
}

func (b *bed) surveyAt(now time.Time) {
	found, unfinished := b.orphansBelow()
	b.Orphans.Survey(found, unfinished, now)
}

// expectOwner checks for which upper pod the lower one stands; "" is that there is none.
func (b *bed) expectOwner(t *testing.T, want string) {
	t.Helper()
	got := ""
	if pod, err := b.lower.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{}); err == nil {
		got = string(pair.UpperUID(pod))
	}
	if got != want {
		t.Errorf("below runs a pod of %q, want %q", got, want)
	}
}

// While the upper cluster does not answer, or when the cache alone has lost the pod, nothing happens.
func TestNoOrphanWithoutConfirmation(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"the upper pod is there": nil, "no answer": errors.New("connection refused")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{lowerPod("1")})
			if answer != nil {
				b.upper.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, answer })
			}
			_ = b.Below.Add(lowerPod("1"))
			b.surveyAt(time.Now().Add(-time.Hour))
			if err := b.step(t); (err == nil) != (answer == nil) {
				t.Errorf("step: %v", err)
			}
			if got := b.Orphans.Release(); len(got) != 0 {
				t.Errorf("taken for orphans: %v", got)
			}
			if got := calls(b.lower); got != nil {
				t.Errorf("writes below: %v", got)
			}
		})
	}
}

// The survey counts what is alone below, and nothing else.
func TestOrphansBelow(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil, nil)
	named := func(name string, uid types.UID, change ...func(*corev1.Pod)) *corev1.Pod {
		return lowerPod(uid, append(change, func(p *corev1.Pod) { p.Name, p.Annotations[keys.UpperName] = name, name })...)
	}
	above := upperPod("1")
	above.Name = "owned"
	_ = b.Above.Add(above)
	renewed := upperPod("3")
	renewed.Name = "renewed"
	_ = b.Above.Add(renewed)
	for _, pod := range []*corev1.Pod{
		named("owned", "1"), named("renewed", "2"), named("alone", "4"), named("over", "5", phase(corev1.PodSucceeded)), named("ending", "6", deleting(30)),
	} {
		_ = b.Below.Add(pod)
	}
	found, unfinished := b.orphansBelow()
	names := map[string]bool{}
	for _, o := range found {
		names[o.UpperName] = o.Finished
	}
	if diff := cmp.Diff(map[string]bool{"renewed": false, "alone": false, "over": true}, names); diff != "" || unfinished != 4 {
		t.Errorf("%d unfinished, want 4; %s", unfinished, diff)
	}
}

// The loop of the survey sees to it that an orphan is confirmed and collected without any event.
func TestSurveyRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil, []runtime.Object{madeFrom(t, upperPod("1"))})
		b.sees(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b.Run(ctx, 1)
		if got := calls(b.lower); len(got) == 0 || got[0] != "delete pods" {
			t.Errorf("writes below %v: the orphan was never collected", got)
		}
	})
}
