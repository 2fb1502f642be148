package pods

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/namespaces"
	"github.com/tessera-k8s/tessera/virtualnode/orphans"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/pods/down"
	"github.com/tessera-k8s/tessera/virtualnode/refusals"
)

// bed is a reconciler between two API servers that are maps. Its caches are filled by hand, so that a test can let
// them lag.
type bed struct {
	*Reconciler
	Below        cache.Indexer
	upper, lower *fake.Clientset
	events       *record.FakeRecorder
}

func newBed(t *testing.T, above, below []runtime.Object) *bed {
	t.Helper()
	b := &bed{
		Below: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{pair.ByUpper: pair.IndexByUpper}),
		upper: fake.NewClientset(above...), lower: fake.NewClientset(below...), events: record.NewFakeRecorder(10),
	}
	b.Reconciler = New(Setup{
		Name:   "v",
		Target: func() translate.Target { return translate.Target{VirtualNode: "v", Identity: "identity"} },
		Upper:  b.upper.CoreV1(), Lower: b.lower.CoreV1(),
		Above:  cache.NewStore(cache.MetaNamespaceKeyFunc),
		Below:  b.Below,
		Barred: func() bool { return false }, Endured: rate.NewLimiter(rate.Inf, 1),
		Reachable: func() bool { return true }, NodeReady: func(string) bool { return true }, NodeUsable: func(string) bool { return true },
		Namespace:  func(context.Context, string) (namespaces.Used, error) { return namespaces.Used{}, nil },
		Known:      func() bool { return false },
		Objects:    func(context.Context, *corev1.Pod) ([]error, error) { return nil, nil },
		Namespaces: namespacesAbove(t, map[string]string{keys.Enabled: "true"}),
		Refusals:   refusals.New(func() {}),
		Orphans:    orphans.New(0, func() time.Time { return time.Time{} }),
		Events:     b.events, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	})
	b.lower.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		action.(clienttesting.CreateAction).GetObject().(*corev1.Pod).Status.Phase = corev1.PodPending // As an API server does.
		return false, nil, nil
	})
	b.absences.settle = 0
	t.Cleanup(b.queue.ShutDown)
	return b
}

// namespacesAbove lists the namespace of the pods alone, with those labels.
func namespacesAbove(t *testing.T, labels map[string]string) corelisters.NamespaceLister {
	t.Helper()
	return namespacesOf(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: labels}})
}

func namespacesOf(t *testing.T, namespace *corev1.Namespace) corelisters.NamespaceLister {
	t.Helper()
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	if err := store.Add(namespace); err != nil {
		t.Fatal(err)
	}
	return corelisters.NewNamespaceLister(store)
}

// sees puts what both API servers hold now into the caches.
func (b *bed) sees(t *testing.T) {
	t.Helper()
	for client, store := range map[*fake.Clientset]cache.Store{b.upper: b.Above, b.lower: b.Below} {
		pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var objects []any
		for i := range pods.Items {
			if pod := &pods.Items[i]; client == b.upper || pod.Labels[keys.Upper] == "identity" {
				objects = append(objects, pod)
			}
		}
		if err := store.Replace(objects, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// calls are the writes that a client was asked for, such as "create pods" or "patch pods/status".
func calls(client *fake.Clientset) []string {
	var made []string
	for _, action := range client.Actions() {
		if slices.Contains([]string{"get", "list", "watch"}, action.GetVerb()) {
			continue
		}
		what := action.GetResource().Resource
		if action.GetSubresource() != "" {
			what += "/" + action.GetSubresource()
		}
		made = append(made, action.GetVerb()+" "+what)
	}
	client.ClearActions()
	return made
}

func (b *bed) step(t *testing.T) error {
	t.Helper()
	_, err := b.reconcile(t.Context(), "ns/p")
	return err
}

func TestLifeOfAPod(t *testing.T) {
	t.Parallel()
	b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{})
	b.sees(t)
	expect := func(what string, above, below []string) {
		t.Helper()
		if err := b.step(t); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(above, calls(b.upper)); diff != "" {
			t.Errorf("%s, writes above: %s", what, diff)
		}
		if diff := cmp.Diff(below, calls(b.lower)); diff != "" {
			t.Errorf("%s, writes below: %s", what, diff)
		}
	}
	expect("bound", nil, []string{"create pods"})
	expect("the cache lags behind the creation", nil, nil)
	b.sees(t)
	expect("below and pending", nil, nil)

	lower, _ := b.lower.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	lower.Status.Phase = corev1.PodRunning
	lower.Spec.NodeName = "node-1"
	_, _ = b.lower.CoreV1().Pods("ns").Update(t.Context(), lower, metav1.UpdateOptions{})
	b.sees(t)
	calls(b.lower)
	expect("running below", []string{"patch pods/status"}, nil)
	b.sees(t)
	expect("reported", nil, nil)
	upper := b.podAbove("ns/p")
	if upper.Status.Phase != corev1.PodRunning || upper.Annotations[keys.LowerNode] != "node-1" {
		t.Errorf("above: phase %s, annotations %v", upper.Status.Phase, upper.Annotations)
	}

	upper = upper.DeepCopy()
	upper.Labels["app"] = "b"
	_, _ = b.upper.CoreV1().Pods("ns").Update(t.Context(), upper, metav1.UpdateOptions{})
	b.sees(t)
	calls(b.upper)
	expect("label changed", nil, []string{"patch pods"})
	b.sees(t)
	if got := b.podBelow("ns/p", nil).Labels["app"]; got != "b" {
		t.Errorf("label below is %q", got)
	}
	expect("brought down", nil, nil)

	deleting(30)(upper)
	if err := b.Above.Update(upper); err != nil {
		t.Fatal(err)
	}
	expect("being deleted above", nil, []string{"delete pods"})
	if err := b.Below.Replace(nil, ""); err != nil {
		t.Fatal(err)
	}
	expect("gone below", []string{"delete pods"}, nil)
}

// Whatever the lower API server answers to a creation, the upper pod never fails, and it is tried again: soon what is likely to
// pass, and no more than three times a minute what was refused. What lasts is told, whatever it is.
func TestRefusedCreations(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	const soon = true
	cases := map[string]struct {
		err    error
		soon   bool
		reason keys.Reason
	}{
		"connection refused":       {errors.New("dial tcp: connection refused"), soon, keys.RefusedBelow},
		"too many requests":        {apierrors.NewTooManyRequests("slow down", 1), soon, keys.RefusedBelow},
		"conflict":                 {apierrors.NewConflict(pods, "p", errors.New("x")), soon, keys.RefusedBelow},
		"time-out":                 {context.DeadlineExceeded, soon, keys.RefusedBelow},
		"default account missing":  {apierrors.NewForbidden(pods, "p", errors.New("error looking up service account ns/default")), soon, keys.RefusedBelow},
		"server error":             {apierrors.NewInternalError(errors.New("failed calling webhook")), false, keys.RefusedBelow},
		"a code of its own":        {apierrors.NewGenericServerResponse(418, "create", pods, "p", "a teapot", 0, true), false, keys.RefusedBelow},
		"quota":                    {apierrors.NewForbidden(pods, "p", errors.New("exceeded quota: q, requested: cpu=1")), false, keys.Quota},
		"refused by an admission":  {apierrors.NewForbidden(pods, "p", errors.New("admission webhook denied")), false, keys.RefusedBelow},
		"invalid in this version":  {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), false, keys.RefusedBelow},
		"namespace is terminating": {terminating(), false, keys.NamespaceEnding},
		"runtime class":            {apierrors.NewForbidden(pods, "p", errors.New(`pod rejected: RuntimeClass "kata" not found`)), false, keys.RuntimeClass},
		"priority class":           {apierrors.NewForbidden(pods, "p", errors.New("no PriorityClass with name high was found")), false, keys.PriorityClass},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, []runtime.Object{upperPod("1", restarts(corev1.RestartPolicyNever))}, nil)
				tried := 0
				b.lower.PrependReactor("create", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
					tried++
					return true, nil, c.err
				})
				for begin := time.Now(); time.Since(begin) < 59*time.Second; {
					b.sees(t)
					again, err := b.reconcile(t.Context(), "ns/p")
					if (err != nil) != c.soon || err == nil && again <= 0 {
						t.Fatalf("again %s, error %v", again, err)
					}
					if shown := pair.Condition(b.podAbove("ns/p"), keys.LowerPlaced); time.Since(begin) > 15*time.Second &&
						(shown == nil || shown.Reason != string(c.reason)) {
						t.Fatalf("shown above after %s: %+v, want %s", time.Since(begin), shown, c.reason)
					}
					<-time.After(max(time.Second, min(again, 2*time.Second))) // Something happens to the pod all the time.
				}
				if tried > 3 && !c.soon || tried < 3 {
					t.Errorf("tried %d times in a minute", tried)
				}
				b.sees(t)
				if pod := b.podAbove("ns/p"); pod.Status.Phase != corev1.PodPending {
					t.Errorf("the upper pod is %s", pod.Status.Phase)
				}
				if got := len(b.events.Events); got != 1 {
					t.Errorf("%d events, want one", got)
				}
				if learnt := b.Refusals.Refusals(); (len(learnt) > 0) != (!c.soon && c.reason != keys.Quota && c.reason != keys.NamespaceEnding) {
					t.Errorf("learnt: %v", learnt)
				}
			})
		})
	}
}

func terminating() error {
	err := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("namespace ns is being terminated"))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	return err
}

func TestNamesTakenBelow(t *testing.T) {
	t.Parallel()
	foreign := lowerPod("1", func(p *corev1.Pod) { delete(p.Labels, keys.Upper) })
	otherUpper := lowerPod("1", func(p *corev1.Pod) { p.Labels[keys.Upper] = "another" })
	cases := map[string]struct {
		existing *corev1.Pod
		ok       bool
		event    string
	}{
		"by a pod that is nobody's":      {foreign, false, string(keys.NameConflict)},
		"by another upper cluster":       {otherUpper, false, string(keys.NameConflict)},
		"by our older pod":               {lowerPod("0"), false, ""},
		"by this very pod (interrupted)": {lowerPod("1"), true, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{upperPod("1")}, []runtime.Object{c.existing})
			_ = b.Above.Add(upperPod("1")) // The cache of lower pods is empty: it lags, or the pod is not ours.
			if again, err := b.reconcile(t.Context(), "ns/p"); (err == nil && again == 0) != c.ok {
				t.Errorf("create: again after %s, %v", again, err)
			}
			for _, call := range calls(b.lower) {
				if call != "create pods" {
					t.Errorf("the pod below was touched: %s", call)
				}
			}
			got := ""
			select {
			case got = <-b.events.Events:
			default:
			}
			if (c.event == "") != (got == "") || !strings.Contains(got, c.event) {
				t.Errorf("event %q, want %q", got, c.event)
			}
		})
	}
}

// A lower pod that is absent from the cache is not therefore gone, nor is an upper one.
func TestAbsenceIsConfirmed(t *testing.T) {
	t.Parallel()
	running := upperPod("1", phase(corev1.PodRunning))
	terminating := upperPod("1", phase(corev1.PodRunning), deleting(30))
	cases := map[string]struct {
		above, below         []runtime.Object // what the API servers hold
		seenAbove, seenBelow *corev1.Pod      // what the caches hold
		wantAbove, wantBelow []string
	}{
		"lower pod in truth there":                       {above: []runtime.Object{running}, below: []runtime.Object{lowerPod("1")}, seenAbove: running},
		"lower pod gone":                                 {above: []runtime.Object{running}, seenAbove: running, wantAbove: []string{"patch pods/status"}},
		"lower pod gone, the upper one is being deleted": {above: []runtime.Object{terminating}, seenAbove: running},
		"lower pod gone, the upper one too":              {seenAbove: running},
		"upper pod in truth there":                       {above: []runtime.Object{running}, below: []runtime.Object{lowerPod("1")}, seenBelow: lowerPod("1")},
		"upper pod gone":                                 {below: []runtime.Object{lowerPod("1")}, seenBelow: lowerPod("1"), wantBelow: []string{"delete pods"}},
		"upper pod replaced":                             {above: []runtime.Object{upperPod("2")}, below: []runtime.Object{lowerPod("1")}, seenBelow: lowerPod("1"), wantBelow: []string{"delete pods"}},
		"ending, in truth still there": {
			above: []runtime.Object{terminating}, below: []runtime.Object{lowerPod("1")}, seenAbove: terminating, wantBelow: []string{"delete pods"}},
		"ending, a stranger has the name": {
			above: []runtime.Object{terminating}, below: []runtime.Object{lowerPod("7")}, seenAbove: terminating, wantAbove: []string{"delete pods"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, c.above, c.below)
			if c.seenAbove != nil {
				_ = b.Above.Add(c.seenAbove)
			}
			if c.seenBelow != nil {
				_ = b.Below.Add(c.seenBelow)
			}
			b.Orphans.Saw("1", time.Now())
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.wantAbove, calls(b.upper)); diff != "" {
				t.Errorf("writes above: %s", diff)
			}
			if diff := cmp.Diff(c.wantBelow, calls(b.lower)); diff != "" {
				t.Errorf("writes below: %s", diff)
			}
		})
	}
}

// An unreachable lower cluster fails no pod and reports nothing.
func TestUnreachableLowerCluster(t *testing.T) {
	t.Parallel()
	running := upperPod("1", phase(corev1.PodRunning))
	for name, seenBelow := range map[string]*corev1.Pod{
		"pod in the cache": lowerPod("1", phase(corev1.PodPending)), "cache empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, []runtime.Object{running}, nil)
			b.lower.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, errors.New("connection refused")
			})
			b.Reachable = func() bool { return false }
			_ = b.Above.Add(running)
			if seenBelow != nil {
				down.Stamp(seenBelow)
				_ = b.Below.Add(seenBelow)
			}
			_ = b.step(t)
			if got := calls(b.upper); got != nil {
				t.Errorf("written above: %v", got)
			}
		})
	}
}
