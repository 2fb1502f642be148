package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Burst is pods of 1, 2, 4 and 8 CPUs, as many of each, for which a lab has exactly the holes: one wrong choice and a pod
// is left over.
type Burst struct {
	Clusters int
	Pods     int
	Seed     uint64
}

var burstSizes = []int64{1, 2, 4, 8}

// sizes are the pods' CPUs in an order of their own.
func (b Burst) sizes(order uint64) []int64 {
	list := make([]int64, b.Pods)
	for i := range list {
		list[i] = burstSizes[i%len(burstSizes)]
	}
	rand.New(rand.NewPCG(b.Seed, order)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// Lab is the lab for the burst: one hole a node.
func (b Burst) Lab() lab.Options {
	holes := b.sizes(0)
	nodes := (b.Pods + b.Clusters - 1) / b.Clusters
	return lab.Options{
		Lower: b.Clusters, Nodes: nodes, Parts: []string{lab.PartExtender, lab.PartVirtualNode, lab.PartAdmission},
		Holes: func(cluster, node int) (corev1.ResourceList, bool) {
			cpus := int64(0)
			if at := (cluster-1)*nodes + node - 1; at < len(holes) {
				cpus = holes[at]
			}
			return corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(cpus, resource.DecimalSI)}, true
		},
	}
}

// Round is one run of the burst.
type Round struct {
	// Namespace is new in every round; Order shuffles the pods.
	Namespace string
	Order     uint64
	// Standstill is how long virtualnode is stopped at a time while pods are being bound, so that what is bound above
	// does not exist below for that long; zero leaves it alone.
	Standstill time.Duration
	// Disturb runs beside the burst and may break things; bound tells how many pods have a node above.
	Disturb func(ctx context.Context, bound func() int) error
	// Patience is how long nothing has to change before the round is over although not every pod runs.
	Patience time.Duration
}

// Outcome is what became of a round.
type Outcome struct {
	Pods    int `json:"pods"`
	Running int `json:"running"`
	// OverPromised are the pods that a lower scheduler has emitted FailedScheduling for, for want of room.
	OverPromised int `json:"overPromised"`
	// Holds are those that the extender still has once nothing moves any more.
	Holds int `json:"holds"`
	// Seconds until the last pod ran, or until nothing moved any more.
	Seconds       float64 `json:"seconds"`
	PodsPerSecond float64 `json:"podsPerSecond"`
}

// Run plays a round in a lab made by Lab, and clears it away.
func (b Burst) Run(ctx context.Context, l *lab.Lab, round Round) (outcome Outcome, err error) {
	upper, err := kubernetes.NewForConfig(l.Upper())
	if err != nil {
		return outcome, fmt.Errorf("building client: %w", err)
	}
	lowers := make([]kubernetes.Interface, b.Clusters)
	for k := range lowers {
		if lowers[k], err = kubernetes.NewForConfig(l.Lower(k + 1)); err != nil {
			return outcome, fmt.Errorf("building client: %w", err)
		}
	}
	r := &running{Burst: b, Round: round, lab: l, upper: upper, lowers: lowers}
	if err := r.prepare(ctx); err != nil {
		return outcome, err
	}
	if outcome, err = r.play(ctx); err != nil {
		return outcome, err
	}
	return outcome, r.clear(ctx)
}

// running is a round under way.
type running struct {
	Burst
	Round
	lab    *lab.Lab
	upper  kubernetes.Interface
	lowers []kubernetes.Interface
}

// prepare makes the namespace and waits until pods can be created in it.
func (r *running) prepare(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace, Labels: map[string]string{keys.Enabled: "true"}}}
	if _, err := r.upper.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace: %w", err)
	}
	return until(ctx, time.Minute, func() error {
		_, err := r.upper.CoreV1().ServiceAccounts(r.Namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// play creates the pods and waits for their end.
func (r *running) play(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := time.Now()
	group, beside := errgroup.WithContext(ctx)
	beside, stop := context.WithCancel(beside)
	defer stop()
	if r.Standstill > 0 {
		group.Go(func() error { return r.standStill(beside) })
	}
	if r.Disturb != nil {
		group.Go(func() error { return r.Disturb(beside, func() int { return r.count(beside).bound }) })
	}
	if err := r.create(ctx); err != nil {
		return Outcome{}, err
	}
	ended := r.watch(ctx, started)
	stop()
	if err := group.Wait(); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), context.Canceled.Error()) {
		return Outcome{}, err
	}
	outcome := Outcome{Pods: r.Pods, Running: r.count(ctx).running, Seconds: ended.Sub(started).Seconds()}
	outcome.PodsPerSecond = float64(outcome.Running) / outcome.Seconds
	var err error
	if outcome.OverPromised, err = r.overPromised(ctx); err != nil {
		return outcome, err
	}
	outcome.Holds, err = r.holds(ctx)
	return outcome, err
}

// create makes all pods, some at a time.
func (r *running) create(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(20)
	for i, cpus := range r.sizes(1 + r.Order) {
		group.Go(func() error {
			_, err := r.upper.CoreV1().Pods(r.Namespace).Create(ctx, burstPod(fmt.Sprintf("p%04d", i), cpus), metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("creating pod: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

func burstPod(name string, cpus int64) *corev1.Pod {
	requests := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(cpus, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(cpus<<28, resource.BinarySI),
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name: "c", Image: "registry.k8s.io/pause:3.10.1", Resources: corev1.ResourceRequirements{Requests: requests},
			}},
		},
	}
}

// tally is how far the pods have come.
type tally struct{ bound, running int }

func (r *running) count(ctx context.Context) (t tally) {
	pods, err := r.upper.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return t // The next look tells.
	}
	for i := range pods.Items {
		if pods.Items[i].Spec.NodeName != "" {
			t.bound++
		}
		if pods.Items[i].Status.Phase == corev1.PodRunning {
			t.running++
		}
	}
	return t
}

// watch returns when all pods run, or since when nothing has changed for as long as the patience lasts.
func (r *running) watch(ctx context.Context, since time.Time) time.Time {
	var last tally
	for tick(ctx, 200*time.Millisecond) {
		now := r.count(ctx)
		if now != last {
			last, since = now, time.Now()
		}
		if now.running == r.Pods || time.Since(since) > r.Patience+r.Standstill {
			break
		}
	}
	return since
}

// standStill stops virtualnode for a while, lets it run for a moment, and so on.
func (r *running) standStill(ctx context.Context) error {
	process := r.lab.Process(lab.PartVirtualNode)
	for more := true; more; more = tick(ctx, time.Second) {
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			return fmt.Errorf("stopping virtualnode: %w", err)
		}
		tick(ctx, r.Standstill)
		if err := process.Signal(syscall.SIGCONT); err != nil {
			return fmt.Errorf("continuing virtualnode: %w", err)
		}
		if r.count(ctx).bound == r.Pods {
			return nil
		}
	}
	return nil
}

// overPromised counts the pods that the lower schedulers lacked room for, by their own events.
func (r *running) overPromised(ctx context.Context) (int, error) {
	pods := map[string]bool{}
	for _, lower := range r.lowers {
		events, err := lower.EventsV1().Events(r.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedScheduling"})
		if err != nil {
			return 0, fmt.Errorf("listing events: %w", err)
		}
		for _, event := range events.Items {
			if strings.Contains(event.Note, "Insufficient") {
				pods[event.Regarding.Name] = true
			}
		}
	}
	return len(pods), nil
}

// holds waits a moment for the last holds to become usage, and counts those that stay.
func (r *running) holds(ctx context.Context) (int, error) {
	var answer struct{ Holds []struct{ Name string } }
	_ = until(ctx, 5*time.Second, func() error { // What is left when the time is over is the figure.
		if err := get(ctx, r.lab.ExtenderURL()+"/debug/holds", &answer); err != nil || len(answer.Holds) > 0 {
			return fmt.Errorf("%d holds, %w", len(answer.Holds), err)
		}
		return nil
	})
	return len(answer.Holds), get(ctx, r.lab.ExtenderURL()+"/debug/holds", &answer)
}

// clear deletes the pods and waits until they have gone on both sides.
func (r *running) clear(ctx context.Context) error {
	all := append([]kubernetes.Interface{r.upper}, r.lowers...)
	if err := r.upper.CoreV1().Pods(r.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("deleting pods: %w", err)
	}
	return until(ctx, 3*time.Minute, func() error {
		for _, c := range all {
			pods, err := c.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("listing pods: %w", err)
			}
			if len(pods.Items) > 0 {
				return fmt.Errorf("%d pods are still there", len(pods.Items))
			}
		}
		return nil
	})
}
