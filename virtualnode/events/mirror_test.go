package events

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// stage is a mirror between two caches and an upper cluster of no more than events.
type stage struct {
	*testing.T
	*Mirror
	Below cache.Store
	upper *fake.Clientset
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, upper: fake.NewClientset(), Below: cache.NewStore(cache.MetaNamespaceKeyFunc)}
	web := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "upper-1"}}
	s.Mirror = New(Setup{
		Cluster: "berlin", Upper: s.upper.CoreV1(),
		Above: func(lower string) *corev1.Pod { return map[string]*corev1.Pod{"up-team/web": web}[lower] },
		Below: s.Below, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	})
	return s
}

// below puts the lower pod of web into the cache.
func (s *stage) below(uid, upper types.UID) {
	_ = s.Below.Add(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "up-team", Name: "web", UID: uid, Annotations: map[string]string{keys.UpperUID: string(upper)},
	}})
}

// started is an event as a kubelet writes it.
func started(uid types.UID, count int32) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "up-team", Name: "web.18", UID: uid},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: "up-team", Name: "web", UID: "lower-1", FieldPath: "spec.containers{main}",
		},
		Type: corev1.EventTypeNormal, Reason: "Started", Message: "Container started", Count: count,
		Source: corev1.EventSource{Component: "kubelet", Host: "node-7"}, ReportingController: "kubelet",
	}
}

func (s *stage) shown() []corev1.Event {
	s.Helper()
	list, err := s.upper.CoreV1().Events("").List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return list.Items
}

func (s *stage) counts(want map[string]float64) {
	s.Helper()
	for _, result := range []string{written, counted, dropped, failed} {
		if got := testutil.ToFloat64(s.Metrics.events.WithLabelValues("berlin", result)); got != want[result] {
			s.Errorf("%v events %s, want %v", got, result, want[result])
		}
	}
}

func TestAnEventIsShownOnceAndCounted(t *testing.T) {
	s := newStage(t)
	s.below("lower-1", "upper-1")
	s.take(t.Context(), started("e1", 1), false)
	s.take(t.Context(), started("e1", 1), false) // Listed again after a restart.
	s.take(t.Context(), started("e1", 5), true)
	all := s.shown()
	if len(all) != 1 {
		t.Fatalf("%d events are shown, want one", len(all))
	}
	all[0].ManagedFields = nil
	want := corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: all[0].Name, Labels: map[string]string{keys.Cluster: "berlin"}},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: "team", Name: "web", UID: "upper-1", FieldPath: "spec.containers{main}",
		},
		Type: corev1.EventTypeNormal, Reason: "Started", Message: "Container started", Count: 5,
		Source: corev1.EventSource{Component: "berlin/kubelet", Host: "node-7"}, ReportingController: "kubelet",
	}
	if diff := cmp.Diff(want, all[0]); diff != "" || !strings.HasPrefix(all[0].Name, "web.") {
		t.Errorf("event %s: %s", all[0].Name, diff)
	}
	s.counts(map[string]float64{written: 1, counted: 2})
}

func TestEventsOfOthersAreNotShown(t *testing.T) {
	for name, change := range map[string]func(*stage, *corev1.Event){
		"another pod":              func(_ *stage, e *corev1.Event) { e.InvolvedObject.Name = "theirs" },
		"a namespace of no prefix": func(_ *stage, e *corev1.Event) { e.InvolvedObject.Namespace = "team" },
		"no UID":                   func(_ *stage, e *corev1.Event) { e.InvolvedObject.UID = "" },
		"of an older upper pod":    func(s *stage, _ *corev1.Event) { s.below("lower-1", "upper-0") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.below("lower-1", "upper-1")
			event := started("e1", 1)
			change(s, event)
			s.take(t.Context(), event, false)
			if len(s.shown()) > 0 || len(s.waiting) > 0 {
				t.Errorf("shown %v, waiting %v", s.shown(), s.waiting)
			}
			s.counts(nil)
		})
	}
}

func TestAnEventWaitsForItsPod(t *testing.T) {
	s := newStage(t)
	s.take(t.Context(), started("e1", 1), false)
	s.below("lower-0", "upper-1") // An older one; the cache does not know yet.
	s.take(t.Context(), started("e1", 2), true)
	s.retry(t.Context())
	if len(s.shown()) > 0 || len(s.waiting) != 1 {
		t.Fatalf("shown %v, waiting %v", s.shown(), s.waiting)
	}
	s.below("lower-1", "upper-1")
	s.retry(t.Context())
	if all := s.shown(); len(all) != 1 || all[0].Count != 2 || len(s.waiting) > 0 {
		t.Errorf("shown %v, waiting %v", all, s.waiting)
	}
	s.below("lower-2", "upper-1") // It has been replaced below; nobody will ever know that event's pod.
	s.take(t.Context(), started("e2", 1), false)
	s.waiting[0].until = time.Now()
	s.retry(t.Context())
	if len(s.waiting) > 0 || len(s.shown()) != 1 {
		t.Errorf("waiting %v", s.waiting)
	}
}

func TestAnUpperClusterThatDoesNotTakeEvents(t *testing.T) {
	s := newStage(t)
	s.below("lower-1", "upper-1")
	var cause error
	s.upper.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) { return cause != nil, nil, cause })
	cause = apierrors.NewForbidden(corev1.Resource("events"), "e", errors.New("no such right"))
	s.take(t.Context(), started("e1", 1), false)
	s.counts(map[string]float64{failed: 1})
	ending := apierrors.NewForbidden(corev1.Resource("events"), "e", errors.New("the namespace is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	cause = ending
	var warnings bytes.Buffer
	s.Mirror.Log = slog.New(slog.NewTextHandler(&warnings, nil))
	s.take(t.Context(), started("e3", 1), false)
	s.counts(map[string]float64{failed: 2})
	if warnings.Len() > 0 {
		t.Errorf("a namespace that ends is nothing to warn of: %s", &warnings)
	}
	cause = apierrors.NewServiceUnavailable("etcd is away")
	s.take(t.Context(), started("e2", 1), false)
	s.retry(t.Context())
	cause = nil
	s.retry(t.Context())
	if all := s.shown(); len(all) != 1 {
		t.Errorf("shown %v", all)
	}
	s.counts(map[string]float64{failed: 2, written: 1})
}

func TestManyNormalEventsLeaveRoomForWarnings(t *testing.T) {
	s := newStage(t)
	s.below("lower-1", "upper-1")
	for s.limiters[corev1.EventTypeNormal].TryAccept() { // So many came before.
	}
	s.take(t.Context(), started("e1", 1), false)
	warning := started("e2", 1)
	warning.Type = corev1.EventTypeWarning
	s.take(t.Context(), warning, false)
	if all := s.shown(); len(all) != 1 || all[0].Type != corev1.EventTypeWarning {
		t.Errorf("shown %v", all)
	}
	s.counts(map[string]float64{dropped: 1, written: 1})
}

func TestNamesAreNamesOfObjects(t *testing.T) {
	long := strings.Repeat("a", 253)
	if name := eventName(long, "x"); len(name) != 253 {
		t.Errorf("%d characters", len(name))
	}
	if eventName("p", "x/1") == eventName("p", "x/2") {
		t.Error("names do not tell events apart")
	}
}

func TestLastSeenIsTheLatestOfAllTimes(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	for name, event := range map[string]*corev1.Event{
		"kubelet":   {LastTimestamp: metav1.NewTime(at(5)), FirstTimestamp: metav1.NewTime(at(1))},
		"scheduler": {EventTime: metav1.NewMicroTime(at(5))},
		"a series":  {EventTime: metav1.NewMicroTime(at(1)), Series: &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at(5))}},
	} {
		event.CreationTimestamp = metav1.NewTime(at(2))
		if got := lastSeen(event); !got.Equal(at(5)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
