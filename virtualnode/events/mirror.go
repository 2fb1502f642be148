package events

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Limits of the mirror.
const (
	writeTimeout = 10 * time.Second
	mostWaiting  = 1000
	cacheLag     = 5 * time.Second // how long a pod that is bound to us may take to appear below
	upperLag     = time.Minute     // how long the upper cluster may refuse to take an event
)

// Mirror shows the events of one lower cluster's pods on the upper pods they stand for.
//
// It keeps nothing but the events that wait for their turn: what has been shown already is known by its name.
type Mirror struct {
	Setup
	limiters map[string]flowcontrol.RateLimiter // by type of event
	waiting  []waiting
	told     string // the last failure that was logged
}

// limits are the writes of a mirror by type of event: many normal ones must not drown a warning, nor take much of the
// upper API server when a thousand pods start at once.
var limits = map[string]struct {
	perSecond float32
	burst     int
}{
	corev1.EventTypeNormal:  {5, 100},
	corev1.EventTypeWarning: {25, 250},
}

// Setup is what a mirror works between and with.
type Setup struct {
	// Cluster is the name of the lower cluster and of its virtual node.
	Cluster string
	// Above is the upper pod bound to the virtual node that has a key, namespace/name, below; nil if there is none.
	Above func(lower string) *corev1.Pod
	// Below are the lower pods that came through it.
	Below        Pods
	Upper, Lower corev1client.EventsGetter
	Metrics      *Metrics
	Log          *slog.Logger
}

// Pods is a cache of pods, by namespace/name.
type Pods interface {
	GetByKey(key string) (pod any, exists bool, err error)
}

// waiting is an event that is to be looked at again, unless it is too late for it.
type waiting struct {
	event *corev1.Event
	until time.Time
}

// New returns a mirror that does nothing before Run.
func New(setup Setup) *Mirror {
	limiters := map[string]flowcontrol.RateLimiter{}
	for kind, limit := range limits {
		limiters[kind] = flowcontrol.NewTokenBucketRateLimiter(limit.perSecond, limit.burst)
	}
	return &Mirror{Setup: setup, limiters: limiters}
}

// Why an event is looked at again later.
var (
	errEarly = errors.New("the pod is not below yet, as far as the cache knows")
	errUpper = errors.New("the upper cluster does not take it")
)

// take shows an event if it is about a pod of ours. An older version of it that still waits makes room for it.
func (m *Mirror) take(ctx context.Context, event *corev1.Event, counts bool) {
	if at := slices.IndexFunc(m.waiting, func(w waiting) bool { return w.event.UID == event.UID }); at >= 0 {
		m.waiting[at].event = event
		return
	}
	err := m.show(ctx, event, counts)
	if err == nil {
		return
	}
	patience := cacheLag
	if errors.Is(err, errUpper) {
		patience = upperLag
	}
	if len(m.waiting) >= mostWaiting {
		m.count(dropped)
		return
	}
	event.ManagedFields = nil
	m.waiting = append(m.waiting, waiting{event: event, until: time.Now().Add(patience)})
}

// retry looks once more at the events that wait.
func (m *Mirror) retry(ctx context.Context) {
	m.waiting = slices.DeleteFunc(m.waiting, func(w waiting) bool {
		err := m.show(ctx, w.event, false)
		if err == nil || time.Now().Before(w.until) {
			return err == nil
		}
		if errors.Is(err, errUpper) {
			m.count(failed)
			m.Log.Warn("Event of a lower pod cannot be shown", "pod", w.event.InvolvedObject.Name, "reason", w.event.Reason, "err", err)
		}
		return true
	})
}

// show writes an event above if it is about a pod of ours. The error says why it has to be tried again.
func (m *Mirror) show(ctx context.Context, event *corev1.Event, counts bool) error {
	upper, err := m.upperPod(event)
	if upper == nil || err != nil {
		return err
	}
	if limiter := m.limiters[event.Type]; limiter == nil || !limiter.TryAccept() {
		m.count(dropped)
		return nil
	}
	result, err := m.write(ctx, upperEvent(event, upper, m.Cluster), counts)
	switch {
	case err == nil:
		m.count(result)
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		m.count(failed) // The namespace is on its way out, as often happens: nothing to warn of.
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		m.count(failed) // The event is such that nobody will ever take it.
		m.Log.Warn("Event of a lower pod cannot be shown", "pod", event.InvolvedObject.Name, "reason", event.Reason, "err", err)
	default:
		return errors.Join(errUpper, err)
	}
	return nil
}

// upperPod returns the upper pod that an event is about, nil if it is about a pod that is not ours.
//
// Pods that are bound to the virtual node are looked for first: by their names the many events of other people's pods are
// told apart at once, and an event that overtook the news of its pod is known to be worth waiting for.
func (m *Mirror) upperPod(event *corev1.Event) (*corev1.Pod, error) {
	about := event.InvolvedObject
	upper := m.Above(about.Namespace + "/" + about.Name)
	if upper == nil || about.UID == "" {
		return nil, nil
	}
	object, ok, _ := m.Below.GetByKey(about.Namespace + "/" + about.Name)
	if !ok {
		return nil, errEarly
	}
	lower := object.(*corev1.Pod)
	switch {
	case lower.UID != about.UID:
		return nil, errEarly // Of an older pod of that name, or of one that the cache does not have yet.
	case lower.Annotations[keys.UpperUID] != string(upper.UID):
		return nil, nil
	default:
		return upper, nil
	}
}

// write creates an event or, where it is shown already, brings it up to date. counts: it has happened before.
func (m *Mirror) write(ctx context.Context, event *corev1.Event, counts bool) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	events := m.Upper.Events(event.Namespace)
	patch := func() error {
		_, err := events.Patch(ctx, event.Name, types.MergePatchType, again(event), metav1.PatchOptions{})
		return err
	}
	if counts {
		if err := patch(); !apierrors.IsNotFound(err) {
			return counted, err
		}
	}
	if _, err := events.Create(ctx, event, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return written, err
	}
	return counted, patch()
}

func (m *Mirror) count(result string) { m.Metrics.events.WithLabelValues(m.Cluster, result).Inc() }
