package through

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// endpointPods are the pods of a Service in one flat cluster; their readiness changes in turn.
const endpointPods = 40

// barEndpointMs is the bar for p99 from Ready in one cluster to the slice in another.
const barEndpointMs = 1000

// measureEndpoints plays pods of one flat cluster that turn unready and ready again, and waits for each change in the slices of another.
func (r *Objects) measureEndpoints(ctx context.Context, out io.Writer, seconds, rounds int, progress Progress) error {
	s, err := newSites(ctx, out, progress, 2, map[string]any{"extender": "", "extenderTokenFile": "", "hint": "off", "network": "flat"})
	if err != nil {
		return err
	}
	defer s.lab.Stop()
	other, err := lab.NewClient(s.lab.Lower(2))
	if err != nil {
		return err
	}
	echo, err := latency.StartEcho(ctx)
	if err != nil {
		return err
	}
	defer echo.Stop()
	var all []latency.Round
	for i := range rounds {
		round, err := s.flips(ctx, echo, other, fmt.Sprintf("endpoints-%d", i+1), seconds)
		if err != nil {
			return fmt.Errorf("endpoints, round %d: %w", i+1, err)
		}
		progress("round %d of %d: an endpoint is known in another cluster after p50 %.0f ms, p99 %.0f ms", i+1, rounds, round.P50Ms, round.P99Ms)
		all = append(all, round)
	}
	r.Endpoint = latency.Of(all)
	r.EndpointP99Ms = r.Endpoint.P99Ms
	return nil
}

// flips changes the readiness of pods of the first cluster, and waits for each change in the slices of the other.
func (s *site) flips(
	ctx context.Context, echo *latency.Echo, other kubernetes.Interface, name string, seconds int,
) (r latency.Round, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := namespace(ctx, s.upper, name); err != nil {
		return r, err
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "load"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "load"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if _, err := s.upper.CoreV1().Services(name).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return r, fmt.Errorf("creating Service: %w", err)
	}
	if err := create(ctx, s.upper, name, s.lab.LowerName(1), endpointPods); err != nil {
		return r, err
	}
	seen, err := watchReady(ctx, other, name)
	if err != nil {
		return r, err
	}
	if err := until(ctx, func(context.Context) error { return seen.allReady(endpointPods) }); err != nil {
		return r, err
	}
	n := seconds * changesRate
	stored := make([]time.Time, n)
	echoed, err := echo.During(ctx, func() error {
		start := time.Now()
		for i := range n {
			sleepUntil(ctx, start.Add(time.Duration(i)*time.Second/changesRate))
			ready := readyIn(i)
			patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, status(ready))
			seen.expect(podName(i%endpointPods), ready, i)
			_, err := s.lower.CoreV1().Pods(name).Patch(ctx, podName(i%endpointPods), types.StrategicMergePatchType, patch,
				metav1.PatchOptions{}, "status")
			if err != nil {
				return fmt.Errorf("changing a pod: %w", err)
			}
			stored[i] = time.Now()
		}
		return ctx.Err()
	})
	if err != nil {
		return r, err
	}
	var delays []time.Duration
	if err := until(ctx, func(context.Context) error {
		delays, err = seen.since(stored)
		return err
	}); err != nil {
		return r, err
	}
	return latency.NewRound(delays, echoed), s.clear(ctx, name)
}

// readyIn is what change i makes of its pod: each turns unready first, and ready in its next turn.
func readyIn(i int) bool { return i/endpointPods%2 == 1 }

func status(ready bool) corev1.ConditionStatus {
	if ready {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// readiness is what the slices of a namespace say of pods, and when a change that is waited for was seen.
type readiness struct {
	mu    sync.Mutex
	ready map[string]bool
	wants map[string]want
	at    map[int]time.Time
}

// want is a change that is waited for.
type want struct {
	ready  bool
	change int
}

// watchReady watches the slices of a namespace until ctx ends.
func watchReady(ctx context.Context, c kubernetes.Interface, namespace string) (*readiness, error) {
	r := &readiness{ready: map[string]bool{}, wants: map[string]want{}, at: map[int]time.Time{}}
	watcher, err := c.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watching slices: %w", err)
	}
	go func() {
		for event := range watcher.ResultChan() {
			if slice, ok := event.Object.(*discoveryv1.EndpointSlice); ok {
				r.note(slice, time.Now())
			}
		}
	}()
	return r, nil
}

func (r *readiness) note(slice *discoveryv1.EndpointSlice, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, endpoint := range slice.Endpoints {
		if endpoint.TargetRef == nil || endpoint.Conditions.Ready == nil {
			continue
		}
		name := endpoint.TargetRef.Name
		r.ready[name] = *endpoint.Conditions.Ready
		if want, waited := r.wants[name]; waited && want.ready == r.ready[name] {
			r.at[want.change] = now
			delete(r.wants, name)
		}
	}
}

// expect has a change waited for; one of the same pod that was not seen yet is made up for by this one.
func (r *readiness) expect(pod string, ready bool, change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wants[pod] = want{ready, change}
}

func (r *readiness) allReady(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := 0
	for _, is := range r.ready {
		if is {
			ready++
		}
	}
	if ready < n {
		return fmt.Errorf("%d of %d endpoints are ready", ready, n)
	}
	return nil
}

// since is how long each change took, given when it was stored; one that was overtaken by the next of its pod, which is late by more
// than a turn, counts as long as that one.
func (r *readiness) since(stored []time.Time) ([]time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wants) > 0 {
		return nil, fmt.Errorf("%d changes are not seen", len(r.wants))
	}
	all := make([]time.Duration, 0, len(stored))
	for i, begin := range stored {
		at := r.at[i]
		for later := i + endpointPods; at.IsZero() && later < len(stored); later += endpointPods {
			at = r.at[later]
		}
		all = append(all, max(0, at.Sub(begin)))
	}
	return all, nil
}
