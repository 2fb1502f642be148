package through

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// What is played of objects that pods bring along.
const (
	changing    = 40 // Secrets that change in turn
	changesRate = 20 // a second, of all of them
	delayPods   = 60 // of each kind, with objects and without, in a round

	heapVirtualNodes = 10
	heapObjects      = 5000 // of each kind above
	heapUsed         = 100  // of all of them are named by pods
	heapReads        = 5
)

// The bars of the figures.
const (
	barUpdateMs  = 500
	barDelayMs   = 50
	barHeapBytes = 10 << 20
)

// Objects is what pods bring along, and what it costs.
type Objects struct {
	// Update is from the moment a changed Secret is stored above until it is seen below; UpdateP99Ms its p99.
	Update      latency.Figure `json:"update"`
	UpdateP99Ms float64        `json:"updateP99Ms"`
	// PodDelayP50Ms is how much later a pod with three objects of its own is below than one without, by the medians of a round;
	// median of the rounds.
	PodDelayP50Ms float64 `json:"podDelayP50Ms"`
	// Endpoint is from the moment a lower pod's Ready is stored until a slice of another flat cluster says so; EndpointP99Ms its p99.
	Endpoint      latency.Figure `json:"endpoint"`
	EndpointP99Ms float64        `json:"endpointP99Ms"`
	// HeapBytes is how much more lives on the heap of ten virtual nodes with 5,000 Secrets and 5,000 ConfigMaps above, 100 of which
	// pods name, than with none; ResidentBytes the same of resident memory.
	HeapBytes     int64 `json:"heapBytes"`
	ResidentBytes int64 `json:"residentBytes"`
}

// MeasureObjects plays them.
func MeasureObjects(ctx context.Context, out io.Writer, seconds, rounds int, progress Progress) (*Objects, error) {
	r := &Objects{}
	if err := r.delays(ctx, out, seconds, rounds, progress); err != nil {
		return nil, err
	}
	if err := r.measureEndpoints(ctx, out, seconds, rounds, progress); err != nil {
		return nil, err
	}
	without, err := measureHeap(ctx, out, 0, progress)
	if err != nil {
		return nil, err
	}
	with, err := measureHeap(ctx, out, heapObjects, progress)
	if err != nil {
		return nil, err
	}
	r.HeapBytes, r.ResidentBytes = with.heap-without.heap, with.resident-without.resident
	return r, nil
}

func (r *Objects) delays(ctx context.Context, out io.Writer, seconds, rounds int, progress Progress) error {
	s, err := newSite(ctx, out, progress, map[string]any{"extender": "", "extenderTokenFile": "", "hint": "off"})
	if err != nil {
		return err
	}
	defer s.lab.Stop()
	echo, err := latency.StartEcho(ctx)
	if err != nil {
		return err
	}
	defer echo.Stop()
	var updates []latency.Round
	var later []float64
	for i := range rounds {
		update, err := s.change(ctx, echo, fmt.Sprintf("change-%d", i+1), seconds)
		if err != nil {
			return fmt.Errorf("changing objects, round %d: %w", i+1, err)
		}
		delay, err := s.podDelay(ctx, fmt.Sprintf("delay-%d", i+1))
		if err != nil {
			return fmt.Errorf("pods with objects, round %d: %w", i+1, err)
		}
		progress("round %d of %d: a change is below after p50 %.0f ms, p99 %.0f ms; a pod with objects %.1f ms later than one without",
			i+1, rounds, update.P50Ms, update.P99Ms, delay)
		updates, later = append(updates, update), append(later, delay)
	}
	r.Update, r.PodDelayP50Ms = latency.Of(updates), latency.Median(later)
	r.UpdateP99Ms = r.Update.P99Ms
	return nil
}

// change changes Secrets that pods name, and waits for each change below.
func (s *site) change(ctx context.Context, echo *latency.Echo, name string, seconds int) (r latency.Round, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := namespace(ctx, s.upper, name); err != nil {
		return r, err
	}
	secrets := s.upper.CoreV1().Secrets(name)
	for i := range changing {
		if err := s.object(ctx, name, objectName(i), kindSecret); err != nil {
			return r, err
		}
		p := pod(name, podName(i), s.lab.LowerName(1))
		use(p, objectName(i))
		if _, err := s.upper.CoreV1().Pods(name).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return r, fmt.Errorf("creating pod: %w", err)
		}
	}
	arrived, err := s.arrivals(ctx, name)
	if err != nil {
		return r, err
	}
	if err := until(ctx, func(context.Context) error {
		if n := arrived.count(); n < changing {
			return fmt.Errorf("%d of %d Secrets are below", n, changing)
		}
		return nil
	}); err != nil {
		return r, err
	}
	n := seconds * changesRate
	stored := make([]time.Time, n)
	echoed, err := echo.During(ctx, func() error {
		start := time.Now()
		for i := range n {
			sleepUntil(ctx, start.Add(time.Duration(i)*time.Second/changesRate))
			patch := fmt.Appendf(nil, `{"stringData":{"x":"%d"}}`, i+1)
			if _, err := secrets.Patch(ctx, objectName(i%changing), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				return fmt.Errorf("changing a Secret: %w", err)
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
		delays, err = arrived.since(stored)
		return err
	}); err != nil {
		return r, err
	}
	return latency.NewRound(delays, echoed), s.clear(ctx, name)
}

func objectName(i int) string { return fmt.Sprintf("o%04d", i) }

// The kinds that are played.
const (
	kindSecret    = "Secret"
	kindConfigMap = "ConfigMap"
)

// object makes a Secret or a ConfigMap above.
func (s *site) object(ctx context.Context, namespace, name, kind string) (err error) {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	if kind == kindSecret {
		_, err = s.upper.CoreV1().Secrets(namespace).Create(ctx,
			&corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"x": "0"}}, metav1.CreateOptions{})
	} else {
		_, err = s.upper.CoreV1().ConfigMaps(namespace).Create(ctx,
			&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"x": strings.Repeat("0", 1000)}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("creating %s %s: %w", kind, name, err)
	}
	return nil
}

// use has a pod name Secrets in its environment.
func use(p *corev1.Pod, secrets ...string) {
	for _, name := range secrets {
		p.Spec.Containers[0].EnvFrom = append(p.Spec.Containers[0].EnvFrom, corev1.EnvFromSource{
			SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		})
	}
}

// arrivals is when each change of Secrets was seen below.
type arrivals struct {
	mu    sync.Mutex
	names map[string]bool
	// at is when a number was first seen, by Secret: a later number makes up for an earlier one that was passed over.
	at map[string]map[int]time.Time
}

// arrivals watches the Secrets of a namespace below until ctx ends.
func (s *site) arrivals(ctx context.Context, namespace string) (*arrivals, error) {
	a := &arrivals{names: map[string]bool{}, at: map[string]map[int]time.Time{}}
	watcher, err := s.lower.CoreV1().Secrets(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watching Secrets below: %w", err)
	}
	go func() {
		for event := range watcher.ResultChan() {
			if secret, ok := event.Object.(*corev1.Secret); ok {
				a.note(secret, time.Now())
			}
		}
	}()
	return a, nil
}

func (a *arrivals) note(secret *corev1.Secret, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names[secret.Name] = true
	number, _ := strconv.Atoi(string(secret.Data["x"])) // The bench writes numbers.
	if a.at[secret.Name] == nil {
		a.at[secret.Name] = map[int]time.Time{}
	}
	if a.at[secret.Name][number].IsZero() {
		a.at[secret.Name][number] = now
	}
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

// since is how long each change took, given when it was stored; an error while some have not arrived.
func (a *arrivals) since(stored []time.Time) ([]time.Duration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []time.Duration
	for i, begin := range stored {
		first := time.Time{}
		for number, at := range a.at[objectName(i%changing)] {
			if number > i && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if first.IsZero() {
			return nil, fmt.Errorf("change %d of %d is not below", i+1, len(stored))
		}
		all = append(all, max(0, first.Sub(begin)))
	}
	return all, nil
}

// podDelay is how many milliseconds later a pod that brings three objects along is below than one that brings none.
func (s *site) podDelay(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, err := s.prepareVia(ctx, name)
	if err != nil {
		return 0, err
	}
	const with, each = "with-", 3
	for i := range delayPods * each {
		if err := s.object(ctx, name, objectName(i), kindSecret); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for i := range 2 * delayPods {
		sleepUntil(ctx, start.Add(time.Duration(i)*50*time.Millisecond))
		p := pod(name, podName(i), s.lab.LowerName(1))
		if i%2 == 1 {
			p.Name = with + p.Name
			use(p, objectName(i/2*each), objectName(i/2*each+1), objectName(i/2*each+2))
		}
		if _, err := s.upper.CoreV1().Pods(name).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return 0, fmt.Errorf("creating pod: %w", err)
		}
	}
	if got, _ := watched.wait(ctx, 2*delayPods, exists); got < 2*delayPods {
		return 0, fmt.Errorf("%d of %d pods are below", got, 2*delayPods)
	}
	var delays [2][]float64
	watched.mu.Lock()
	for name, p := range watched.pods {
		kind := 0
		if strings.HasPrefix(name, with) {
			kind = 1
		}
		delays[kind] = append(delays[kind], float64(p.exists.Sub(p.bound).Microseconds())/1000)
	}
	watched.mu.Unlock()
	return latency.Median(delays[1]) - latency.Median(delays[0]), s.clear(ctx, name)
}

// heap is what a process has.
type heap struct{ heap, resident int64 }

// measureHeap is what lives on the heap of ten virtual nodes with a pod for each object that is used, and so many Secrets and
// ConfigMaps above; without any, the pods name none.
func measureHeap(ctx context.Context, out io.Writer, objects int, progress Progress) (h heap, err error) {
	s, names, err := newPlayedSite(ctx, out, progress, heapVirtualNodes, heapUsed)
	if err != nil {
		return h, err
	}
	defer s.stop()
	const name = "heap"
	if err := namespace(ctx, s.upper, name); err != nil {
		return h, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range objects {
		for _, kind := range []string{kindSecret, kindConfigMap} {
			group.Go(func() error { return s.object(groupCtx, name, objectName(i), kind) })
		}
	}
	if err := group.Wait(); err != nil {
		return h, err
	}
	for i := range heapUsed {
		p := pod(name, podName(i), names[i%len(names)])
		if objects > 0 {
			use(p, objectName(i))
		}
		if _, err := s.upper.CoreV1().Pods(name).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return h, fmt.Errorf("creating pod: %w", err)
		}
	}
	if err := until(ctx, func(ctx context.Context) error {
		list, err := s.upper.CoreV1().Pods(name).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=" + string(corev1.PodRunning)})
		if err == nil && len(list.Items) < heapUsed {
			err = fmt.Errorf("%d of %d pods run", len(list.Items), heapUsed)
		}
		return err
	}); err != nil {
		return h, err
	}
	sleepUntil(ctx, time.Now().Add(quiet))
	var reads []float64
	for range heapReads {
		read, err := s.liveHeap(ctx)
		if err != nil {
			return h, err
		}
		reads = append(reads, float64(read))
	}
	h = heap{int64(latency.Median(reads)), s.virtualNode().RSS()}
	progress("%d objects of each kind above: %d MiB live, %d MiB resident", objects, h.heap>>20, h.resident>>20)
	return h, nil
}

// Print writes the figures as a table.
func (r *Objects) Print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value, bar string, ok bool) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, value, bar, map[bool]string{true: "OK", false: "short"}[ok])
	}
	fmt.Fprintln(table, "\nOBJECTS THAT COME ALONG\tFIGURE\tBAR\t")
	row("a change above to below", r.Update.String(), fmt.Sprintf("p99 < %d ms", barUpdateMs), r.UpdateP99Ms < barUpdateMs)
	row("a pod with three against one without", fmt.Sprintf("%.1f ms later", r.PodDelayP50Ms),
		fmt.Sprintf("< %d ms", barDelayMs), r.PodDelayP50Ms < barDelayMs)
	row("Ready in one flat cluster to the slice in another", r.Endpoint.String(), fmt.Sprintf("p99 < %d ms", barEndpointMs),
		r.EndpointP99Ms < barEndpointMs)
	row("heap of 10 virtual nodes, 5,000 + 5,000 above, 100 used", fmt.Sprintf("%.1f MiB more, %.1f MiB resident",
		float64(r.HeapBytes)/(1<<20), float64(r.ResidentBytes)/(1<<20)), fmt.Sprintf("< %d MiB", barHeapBytes>>20), r.HeapBytes < barHeapBytes)
	return table.Flush()
}
