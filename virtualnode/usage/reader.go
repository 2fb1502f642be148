package usage

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Times of a reader.
const (
	readEvery   = 15 * time.Second // as often as a metrics-server reads what it serves
	readTimeout = 10 * time.Second
	idleAfter   = 5 * time.Minute // without anybody who asks
	failedPause = time.Minute     // before a cluster is asked again that has no metrics API, or does not let it be read
	staleAfter  = time.Minute     // what is older is not shown any more
)

// Source lists what pods use: the client of the metrics API.
type Source interface {
	List(ctx context.Context, options metav1.ListOptions) (*metricsv1beta1.PodMetricsList, error)
}

// Setup is what a reader works with.
type Setup struct {
	// Name is that of the virtual node, Identity that of the upper cluster.
	Name, Identity string
	Source         Source
	// Above lists the upper pods bound to the virtual node, LowerOf is the lower pod of one, nil if there is none.
	Above   func() []any
	LowerOf func(upper *corev1.Pod) *corev1.Pod
	// Changed is called when Trouble says something else.
	Changed func()
	Log     *slog.Logger
}

// Use is what a container, a pod or the node uses.
type Use struct {
	// Start is when the counter began, Time that of the newest figures; zero where there are none.
	Start, Time time.Time
	// Seconds are those of processors since Start, Cores the newest rate.
	Seconds, Cores float64
	// Memory is the working set in bytes.
	Memory int64
}

// Container is what one container uses.
type Container struct {
	Name, Image string
	Use
}

// Pod is what a pod uses.
type Pod struct {
	Upper      *corev1.Pod // shared: nobody may change it
	Containers []Container
	Use
}

// Picture is what the pods of a virtual node use.
type Picture struct {
	// Node is the sum of the pods.
	Node Use
	// Pods are those that something is known of.
	Pods []Pod
	// Bound are all pods of the virtual node that have not ended.
	Bound int
	// Err says why there are no figures, or old ones; nil if there are.
	Err error
}

// Reader reads what the pods of one virtual node use, with one list every 15 s for as long as somebody wants to know. Its methods are
// safe for concurrent use.
type Reader struct {
	Setup

	trouble atomic.Pointer[error] // that of the newest picture; nil before the first

	mu      sync.Mutex
	asked   time.Time
	due     time.Time // when to read again
	read    time.Time
	picture Picture
	counters
}

// counters are what is integrated.
type counters struct {
	node       series
	pods       map[types.UID]*series
	containers map[containerKey]*series
}

type containerKey struct {
	pod  types.UID
	name string
}

// New returns a reader that reads nothing before somebody asks.
func New(setup Setup) *Reader { return &Reader{Setup: setup} }

// Run keeps reading while somebody asks, until ctx ends.
func (r *Reader) Run(ctx context.Context) {
	ticker := time.NewTicker(readEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.mu.Lock()
			if now.Sub(r.asked) < idleAfter {
				r.refresh(ctx, now)
			}
			r.mu.Unlock()
		}
	}
}

// Picture is what the pods use. It may ask the lower cluster, and takes 10 s at the most.
func (r *Reader) Picture(ctx context.Context) Picture {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Now()
	r.refresh(ctx, r.asked)
	if r.asked.Sub(r.read) > staleAfter {
		return Picture{Err: r.picture.Err, Bound: r.picture.Bound}
	}
	return r.picture
}

// Trouble is why it is not known what pods use, nil if it is; asked is false as long as nobody has wanted to know.
func (r *Reader) Trouble() (asked bool, err error) {
	trouble := r.trouble.Load()
	if trouble == nil {
		return false, nil
	}
	return true, *trouble
}

// refresh reads, if that is due. The caller holds the lock: whoever asks meanwhile wants to know the same.
func (r *Reader) refresh(ctx context.Context, now time.Time) {
	if now.Before(r.due) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ours := labels.Set{keys.Upper: r.Identity, keys.VirtualNode: r.Name}
	list, err := r.Source.List(ctx, metav1.ListOptions{LabelSelector: ours.String()})
	r.due = now.Add(readEvery - readEvery/10) // A tick is never too early.
	before := r.trouble.Swap(&err)
	switch {
	case err == nil:
		r.picture, r.read = r.take(list.Items), now
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err): // That will be so for a while.
		r.due = now.Add(failedPause)
		fallthrough
	default:
		r.picture.Err = err
	}
	if before == nil || (*before == nil) != (err == nil) {
		if err != nil {
			r.Log.Warn("What pods use cannot be read, kubectl top and autoscalers do not see it", "err", err)
		}
		r.Changed()
	}
}

// take makes the picture of a list. Counters of what is not in it are forgotten.
func (r *Reader) take(list []metricsv1beta1.PodMetrics) Picture {
	below := make(map[types.NamespacedName]*metricsv1beta1.PodMetrics, len(list))
	for i := range list {
		below[types.NamespacedName{Namespace: list[i].Namespace, Name: list[i].Name}] = &list[i]
	}
	next := counters{node: r.node, pods: map[types.UID]*series{}, containers: map[containerKey]*series{}}
	var p Picture
	for _, object := range r.Above() {
		upper := object.(*corev1.Pod)
		if upper.Status.Phase == corev1.PodSucceeded || upper.Status.Phase == corev1.PodFailed {
			continue
		}
		p.Bound++
		lower := r.LowerOf(upper)
		if lower == nil {
			continue
		}
		if m := below[types.NamespacedName{Namespace: lower.Namespace, Name: lower.Name}]; m != nil {
			p.Pods = append(p.Pods, r.pod(upper, m, &next))
		}
	}
	for i := range p.Pods {
		p.Node.plus(p.Pods[i].Use)
	}
	if !p.Node.Time.IsZero() {
		next.node.add(p.Node.Cores, p.Node.Time, readEvery, time.Time{}) // Nobody takes a counter of nothing for one.
		p.Node.Start, p.Node.Seconds = next.node.start, next.node.seconds
	}
	r.counters = next
	return p
}

// pod takes what the metrics API says of one pod.
func (r *Reader) pod(upper *corev1.Pod, m *metricsv1beta1.PodMetrics, next *counters) Pod {
	p := Pod{Upper: upper}
	at, window := m.Timestamp.Time, m.Window.Duration
	for i := range m.Containers {
		c := Container{Name: m.Containers[i].Name, Image: imageOf(upper, m.Containers[i].Name), Use: Use{Time: at}}
		c.Cores, c.Memory = m.Containers[i].Usage.Cpu().AsApproximateFloat64(), m.Containers[i].Usage.Memory().Value()
		key := containerKey{upper.UID, c.Name}
		counter := r.containers[key]
		if counter == nil {
			counter = &series{}
		}
		counter.add(c.Cores, at, window, begun(upper, c.Name))
		next.containers[key] = counter
		c.Start, c.Seconds = counter.start, counter.seconds
		p.Containers = append(p.Containers, c)
		p.plus(c.Use)
	}
	counter := r.pods[upper.UID]
	if counter == nil {
		counter = &series{}
	}
	counter.add(p.Cores, at, window, time.Time{})
	next.pods[upper.UID] = counter
	p.Start, p.Time, p.Seconds = counter.start, at, counter.seconds
	return p
}

// plus adds another one's rates to those of a sum.
func (u *Use) plus(other Use) {
	u.Cores += other.Cores
	u.Memory += other.Memory
	if other.Time.After(u.Time) {
		u.Time = other.Time
	}
}

// begun is when a container began to run, zero where its status does not say.
func begun(pod *corev1.Pod, name string) time.Time {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range statuses {
			if running := statuses[i].State.Running; statuses[i].Name == name && running != nil {
				return running.StartedAt.Time
			}
		}
	}
	return time.Time{}
}

// imageOf is a container's image, "" for one that the lower cluster has added.
func imageOf(pod *corev1.Pod, name string) string {
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			if containers[i].Name == name {
				return containers[i].Image
			}
		}
	}
	return ""
}
