package lifecycles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Options say what is played.
type Options struct {
	// Lifecycles begin at an even pace of Rate a second.
	Lifecycles, Rate int
	// Seed decides which pods live how, and what is killed when.
	Seed uint64
}

// DefaultRate is a pace at which a machine with two cores keeps up.
const DefaultRate = 10

// together is how many lifecycles are under way at most.
const together = 60

// Lab is the lab to play in.
func Lab(out io.Writer) lab.Options {
	return lab.Options{
		Lower: 1, Nodes: 4, Parts: []string{lab.PartVirtualNode}, BoundByHand: true, Log: out,
		Shapes: []lab.Shape{{Resources: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods: resource.MustParse("500"),
		}}},
		// A pod that was deleted above with force while virtualnode was dead is an orphan below; here it is to go soon.
		Config: map[string]map[string]any{lab.PartVirtualNode: {"orphanGrace": "2s"}},
	}
}

// Report is what became of a play.
type Report struct {
	Lifecycles int            `json:"lifecycles"`
	Seconds    float64        `json:"seconds"`
	Kinds      map[string]int `json:"kinds"` // upper pods by kind
	Kills      map[string]int `json:"kills"` // by process
	UpperPods  int            `json:"upperPods"`
	LowerPods  int            `json:"lowerPods"`
	Starts     int            `json:"starts"` // of lower pods, as the watch saw them
	Planted    int            `json:"planted"`
	Verdict
}

// Play lets pods live in a lab made by Lab and judges what became of them.
func Play(ctx context.Context, l *lab.Lab, o Options, progress func(format string, args ...any)) (*Report, error) {
	d, err := newDriver(l, "lifecycles", progress)
	if err != nil {
		return nil, err
	}
	if err := makeNamespace(ctx, d.upper, d.namespace); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	defer close(stop)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.Done():
			cancel(l.Err()) // A process that nobody killed has ended: nothing that follows would tell anything.
		case <-ctx.Done():
		}
	}()
	if d.above, err = takeCensus(d.upper, d.namespace, stop); err != nil {
		return nil, err
	}
	if d.below, err = takeCensus(d.lower, d.namespace, stop); err != nil {
		return nil, err
	}
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	if err := d.plant(ctx); err != nil {
		return nil, err
	}
	started := time.Now()
	kills, err := d.live(ctx, o)
	if err = errors.Join(context.Cause(ctx), err); err != nil {
		return nil, err
	}
	e, err := d.gather(ctx)
	if err = errors.Join(context.Cause(ctx), err); err != nil {
		return nil, err
	}
	return d.report(e, o, kills, time.Since(started)), nil
}

// open sends a first pod through, so that the namespace below is one that virtualnode has made.
func (d *driver) open(ctx context.Context) error {
	i, err := d.create(ctx, "first", plainPod("first"))
	if err != nil {
		return err
	}
	d.sees(ctx, i, "running", running)
	if i.trouble != "" {
		return fmt.Errorf("the first pod %s", i.trouble)
	}
	return d.end(ctx, i, nil)
}

// live plays all lifecycles and kills.
func (d *driver) live(ctx context.Context, o Options) ([]kill, error) {
	random := rand.New(rand.NewPCG(o.Seed, 1))
	kills := killsFor(o.Lifecycles, d.node, random)
	begun := make(chan int, o.Lifecycles)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.kill(ctx, kills, begun) })
	var done atomic.Int64
	lives, livesCtx := errgroup.WithContext(ctx)
	lives.SetLimit(together)
	pace := time.NewTicker(time.Second / time.Duration(o.Rate))
	defer pace.Stop()
	for n := range o.Lifecycles {
		own := rand.New(rand.NewPCG(o.Seed, uint64(2+n)))
		k := pick(own)
		lives.Go(func() error {
			defer done.Add(1)
			return k.play(d, livesCtx, podName(n), own)
		})
		begun <- n
		if n > 0 && n%100 == 0 {
			d.progress("%d lifecycles begun, %d done", n, done.Load())
		}
		select {
		case <-livesCtx.Done():
		case <-pace.C:
		}
	}
	close(begun)
	err := lives.Wait()
	return kills, errors.Join(err, group.Wait())
}

// gather waits until what has to go has gone, and reads what there is then.
func (d *driver) gather(ctx context.Context) (evidence, error) {
	e := evidence{instances: d.known(), planted: d.planted}
	// What is left when the patience is over is the verdict's to name.
	_ = poll(ctx, func(ctx context.Context) error {
		if err := d.list(ctx, &e); err != nil {
			return err
		}
		if lines := append(e.orphaned(), e.lost()...); len(lines) > 0 {
			return errors.New(lines[0])
		}
		return nil
	})
	err := d.until(ctx, func(ctx context.Context) (err error) {
		if err = d.list(ctx, &e); err != nil {
			return err
		}
		if e.bound, err = d.scheduled(ctx); err != nil {
			return err
		}
		e.found, err = d.versions(ctx)
		return err
	})
	e.above, e.below = d.above.all(), d.below.all()
	return e, err
}

// list reads the pods of both sides.
func (d *driver) list(ctx context.Context, e *evidence) error {
	above, err := d.upper.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing upper pods: %w", err)
	}
	below, err := d.lower.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: keys.Upper})
	if err != nil {
		return fmt.Errorf("listing lower pods: %w", err)
	}
	e.leftAbove, e.leftBelow = above.Items, below.Items
	e.brought, err = d.brought(ctx)
	return err
}

// scheduled returns the pods that the lower scheduler says it has bound, name by UID.
func (d *driver) scheduled(ctx context.Context) (map[types.UID]string, error) {
	events, err := d.lower.EventsV1().Events(d.namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=Scheduled"})
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	bound := map[types.UID]string{}
	for i := range events.Items {
		bound[events.Items[i].Regarding.UID] = events.Items[i].Regarding.Name
	}
	return bound, nil
}

func (d *driver) report(e evidence, o Options, kills []kill, took time.Duration) *Report {
	r := &Report{
		Lifecycles: o.Lifecycles, Seconds: took.Seconds(), Kinds: map[string]int{}, Kills: map[string]int{},
		UpperPods: len(e.instances), Planted: len(e.planted), Verdict: check(e),
	}
	for _, i := range e.instances {
		r.Kinds[i.kind]++
	}
	for _, k := range kills {
		r.Kills[k.process]++
	}
	for _, l := range e.below {
		if l.standsFor != "" {
			r.LowerPods++
			r.Starts += l.starts
		}
	}
	return r
}

// Check is an error if anything went wrong; it names the first things of each sort.
func (r *Report) Check() error {
	if r.OK() {
		return nil
	}
	var text strings.Builder
	for _, sort := range []struct {
		name  string
		lines []string
	}{{"lost", r.Lost}, {"doubled", r.Doubled}, {"orphaned", r.Orphaned}, {"changed", r.Changed}} {
		for i, line := range sort.lines {
			if i == 20 {
				fmt.Fprintf(&text, "\n  %s: and %d more", sort.name, len(sort.lines)-i)
				break
			}
			fmt.Fprintf(&text, "\n  %s: %s", sort.name, line)
		}
	}
	return fmt.Errorf("lifecycles: %d lost, %d doubled, %d orphaned, %d changed:%s",
		len(r.Lost), len(r.Doubled), len(r.Orphaned), len(r.Changed), text.String())
}

// Print writes the figures as a table.
func (r *Report) Print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nLIFECYCLES UNDER SIGKILL\t")
	fmt.Fprintf(table, "lifecycles, upper pods\t%d, %d in %.0f s\n", r.Lifecycles, r.UpperPods, r.Seconds)
	fmt.Fprintf(table, "lower pods, starts\t%d, %d\n", r.LowerPods, r.Starts)
	fmt.Fprintf(table, "kinds\t%v\n", r.Kinds)
	fmt.Fprintf(table, "killed\t%v\n", r.Kills)
	fmt.Fprintf(table, "lost\t%d\ndoubled\t%d\norphaned\t%d\n", len(r.Lost), len(r.Doubled), len(r.Orphaned))
	fmt.Fprintf(table, "objects of others changed\t%d of %d\n", len(r.Changed), r.Planted)
	return table.Flush()
}
