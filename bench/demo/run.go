package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// Result is what became of the workload in one run.
type Result struct {
	Asked   int `json:"asked"`
	Running int `json:"running"`
	// StuckBelow counts pods bound above whose lower pod has PodScheduled=False at the end.
	StuckBelow int `json:"stuckBelow"`
	// RefusedWithRoom counts pods Pending above at the end although the real filter plugins find a node for them.
	RefusedWithRoom int `json:"refusedWithRoom"`
	// CPUUsed and CPUFree are cores: of the workload's running pods, and free on the lower nodes at the end.
	CPUUsed float64 `json:"cpuUsed"`
	CPUFree float64 `json:"cpuFree"`
	// SecondsToAllRunning is nil if that was never reached.
	SecondsToAllRunning *float64 `json:"secondsToAllRunning"`
}

// run is one pass of the workload through a lab.
type run struct {
	name    string
	lab     *lab.Lab
	upper   kubernetes.Interface
	lower   []kubernetes.Interface
	out     io.Writer
	seed    int64
	observe observer // nil for none
}

// observer sees every sample of a run; its error ends the run.
type observer func(ctx context.Context, s *sample) error

// quiet is how long nothing may change for a run to be over.
const quiet = 15 * time.Second

// start brings up a lab with the given parts.
func start(ctx context.Context, name string, parts []string, seed int64, out io.Writer) (*run, error) {
	fmt.Fprintf(out, "\n%s: starting %d lower clusters of %d nodes\n", name, lowerClusters, nodesEach)
	l, err := lab.Start(ctx, lab.Options{Lower: lowerClusters, Nodes: nodesEach, Holes: holes(seed), Seed: seed, Parts: parts, Log: out})
	if err != nil {
		return nil, fmt.Errorf("starting lab of run %s: %w", name, err)
	}
	r := &run{name: name, lab: l, out: out, seed: seed}
	if r.upper, err = kubernetes.NewForConfig(l.Upper()); err != nil {
		l.Stop()
		return nil, fmt.Errorf("building upper client: %w", err)
	}
	for k := 1; k <= lowerClusters; k++ {
		client, err := kubernetes.NewForConfig(l.Lower(k))
		if err != nil {
			l.Stop()
			return nil, fmt.Errorf("building client of %s: %w", l.LowerName(k), err)
		}
		r.lower = append(r.lower, client)
	}
	return r, nil
}

// play creates the workload and watches until nothing has changed for a while. It returns the last sample, which
// knows the whole end state.
func (r *run) play(ctx context.Context) (Result, *sample, error) {
	if _, err := r.upper.CoreV1().Namespaces().Create(ctx, space(), metav1.CreateOptions{}); err != nil {
		return Result{}, nil, fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	started := time.Now()
	for _, pod := range workload(r.seed) {
		if err := r.create(ctx, pod); err != nil {
			return Result{}, nil, err
		}
	}
	result, last, err := r.watch(ctx, started)
	if err != nil {
		return Result{}, nil, err
	}
	result.RefusedWithRoom, err = last.refusedWithRoom(ctx)
	return result, last, err
}

// watch samples once a second and prints a progress line whenever it changes.
func (r *run) watch(ctx context.Context, started time.Time) (Result, *sample, error) {
	var last *sample
	var result Result
	changed := time.Now()
	for {
		s, err := r.sample(ctx)
		if err != nil {
			return result, nil, err
		}
		if last == nil || s.counts != last.counts {
			changed = time.Now()
			fmt.Fprintf(r.out, "%-8s %4.0fs  Running %3d  Pending above %3d  waiting below %3d\n",
				r.name, changed.Sub(started).Seconds(), s.running, s.pendingAbove, s.asked-s.running-s.pendingAbove)
		}
		last = s
		if s.running == s.asked && result.SecondsToAllRunning == nil {
			result.SecondsToAllRunning = new(float64)
			*result.SecondsToAllRunning = time.Since(started).Round(100 * time.Millisecond).Seconds()
		}
		if r.observe != nil {
			if err := r.observe(ctx, s); err != nil {
				return result, nil, err
			}
		}
		if time.Since(changed) > quiet {
			s.fill(&result)
			return result, s, nil
		}
		select {
		case <-ctx.Done():
			return result, nil, ctx.Err()
		case <-r.lab.Done():
			return result, nil, r.lab.Err()
		case <-time.After(time.Second):
		}
	}
}
