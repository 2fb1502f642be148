package many

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/standin"
	"github.com/tessera-k8s/tessera/bench/standin/play"
	"github.com/tessera-k8s/tessera/internal/ask"
)

// Options say how much is played, and how long.
type Options struct {
	Clusters, Nodes, Pods int // nodes and pods of each cluster
	Seed                  uint64
	Churn                 float64 // events a second in all clusters together
	Seconds               int     // how long churn is measured
}

// Cost is what a process took.
type Cost struct {
	ResidentBytes int64 `json:"residentBytes"` // at the end of the time
	// CPUSeconds is processor time of the process in that time.
	CPUSeconds float64 `json:"cpuSeconds"`
}

// Result is what was measured.
type Result struct {
	Clusters int `json:"clusters"`
	Nodes    int `json:"nodes"` // in all clusters
	Pods     int `json:"pods"`

	// SyncedSeconds is from the start of the extender until it has listed every cluster.
	SyncedSeconds   float64 `json:"syncedSeconds"`
	SyncedExtender  Cost    `json:"syncedExtender"`
	SyncedStandIn   Cost    `json:"syncedStandIn"`
	ListedPerSecond float64 `json:"listedPerSecond"` // objects that the extender was sent until then

	ChurnSeconds    float64 `json:"churnSeconds"`
	EventsPerSecond float64 `json:"eventsPerSecond"` // that the extender was sent under churn
	AskedPerSecond  float64 `json:"askedPerSecond"`
	ChurnExtender   Cost    `json:"churnExtender"`
	ChurnStandIn    Cost    `json:"churnStandIn"`
	// CaughtUpSeconds is from the end of the churn until the extender counts the pods that there are.
	CaughtUpSeconds float64 `json:"caughtUpSeconds"`
	// SeenNodes and SeenPods are what it counts then.
	SeenNodes int `json:"seenNodes"`
	SeenPods  int `json:"seenPods"`
}

// How long is waited at the most.
const (
	syncedWithin   = 10 * time.Minute
	caughtUpWithin = time.Minute
)

// Progress takes a line about work under way.
type Progress func(format string, args ...any)

// site is what is measured.
type site struct {
	lab     *lab.Lab
	standIn *standin.Process
	ask     *ask.Extender
}

// Measure starts an upper cluster, the stand-in and then the extender, waits until that has listed everything, and lets pods
// come and go.
func Measure(ctx context.Context, out io.Writer, o Options, progress Progress) (*Result, error) {
	l, err := lab.Start(ctx, lab.Options{Parts: []string{lab.PartExtender}, Log: out})
	if err != nil {
		return nil, err
	}
	defer l.Stop()
	l.Process(lab.PartExtender).Stop() // It is built and configured, and starts anew once there is something to list.
	played := standin.DefaultOptions()
	played.Clusters, played.Nodes, played.Pods, played.Seed = o.Clusters, o.Nodes, o.Pods, o.Seed
	played.Dir = filepath.Join(l.Dir(), "clusters")
	s := &site{lab: l, ask: &ask.Extender{Daemon: &ask.Daemon{
		Name: "extender", URL: l.PartURL(lab.PartExtender), Timeout: 10 * time.Second, UserAgent: "bench",
	}}}
	if s.standIn, err = standin.StartProcess(ctx, "", played); err != nil {
		return nil, err
	}
	defer s.standIn.Stop()
	r := &Result{}
	if err := s.sync(ctx, r); err != nil {
		return nil, err
	}
	progress("extender has %d clusters, %d nodes and %d pods after %.1f s", r.Clusters, r.SeenNodes, r.SeenPods, r.SyncedSeconds)
	if err := s.churn(ctx, o, r, played.Heartbeat); err != nil {
		return nil, err
	}
	progress("%.0f events/s for %.0f s, caught up %.2f s later", r.EventsPerSecond, r.ChurnSeconds, r.CaughtUpSeconds)
	return r, nil
}

// sync starts the extender and waits until it has everything.
func (s *site) sync(ctx context.Context, r *Result) error {
	before, err := s.standIn.Stats(ctx)
	if err != nil {
		return err
	}
	r.Clusters, r.Nodes, r.Pods = before.Clusters, before.Nodes, before.Pods
	started := time.Now()
	if err := s.extender().Restart(ctx); err != nil {
		return err
	}
	err = until(ctx, syncedWithin, func() error {
		seen, err := s.seen(ctx)
		if err == nil && seen.synced < r.Clusters {
			err = fmt.Errorf("%d of %d clusters are synced", seen.synced, r.Clusters)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.SyncedSeconds = time.Since(started).Seconds()
	after, err := s.standIn.Stats(ctx)
	if err != nil {
		return err
	}
	seen, err := s.seen(ctx)
	if err != nil {
		return err
	}
	r.SeenNodes, r.SeenPods = seen.nodes, seen.pods
	r.SyncedExtender = Cost{s.extender().RSS(), s.extender().CPU().Seconds()}
	r.SyncedStandIn = Cost{after.ResidentBytes, after.CPUSeconds - before.CPUSeconds}
	r.ListedPerSecond = float64(after.Initial+after.Listed-before.Initial-before.Listed) / r.SyncedSeconds
	return nil
}

func (s *site) extender() *lab.Process { return s.lab.Process(lab.PartExtender) }

// churn lets pods come and go for a time.
func (s *site) churn(ctx context.Context, o Options, r *Result, heartbeat time.Duration) error {
	before, err := s.standIn.Stats(ctx)
	if err != nil {
		return err
	}
	cpu, started := s.extender().CPU(), time.Now()
	if err := s.standIn.SetRates(ctx, play.Rates{Churn: o.Churn, Heartbeat: heartbeat}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(o.Seconds) * time.Second):
	}
	after, err := s.standIn.Stats(ctx)
	if err != nil {
		return err
	}
	r.ChurnSeconds, r.AskedPerSecond = time.Since(started).Seconds(), o.Churn
	r.EventsPerSecond = float64(after.Events-before.Events) / r.ChurnSeconds
	r.ChurnExtender = Cost{s.extender().RSS(), (s.extender().CPU() - cpu).Seconds()}
	r.ChurnStandIn = Cost{after.ResidentBytes, after.CPUSeconds - before.CPUSeconds}
	if err := s.standIn.SetRates(ctx, play.Rates{}); err != nil {
		return err
	}
	return s.catchUp(ctx, r)
}

// catchUp waits until the extender counts what there is. If it never does, that is for Check to say.
func (s *site) catchUp(ctx context.Context, r *Result) error {
	started := time.Now()
	err := until(ctx, caughtUpWithin, func() error {
		stats, err := s.standIn.Stats(ctx)
		if err != nil {
			return err
		}
		seen, err := s.seen(ctx)
		if err != nil {
			return err
		}
		r.Nodes, r.Pods, r.SeenNodes, r.SeenPods = stats.Nodes, stats.Pods, seen.nodes, seen.pods
		return r.Check()
	})
	r.CaughtUpSeconds = time.Since(started).Seconds()
	if errors.Is(err, errMiscounted) {
		return nil
	}
	return err
}

// seen is what the extender counts.
type seen struct{ synced, nodes, pods int }

func (s *site) seen(ctx context.Context) (all seen, err error) {
	answer, err := s.ask.Clusters(ctx)
	if err != nil {
		return all, err
	}
	for _, cluster := range answer.Value.Clusters {
		if cluster.Synced {
			all.synced++
		}
		all.nodes += cluster.Nodes
		all.pods += cluster.Pods
	}
	return all, nil
}

// until tries until there is no error or the time is over; the last error comes back then.
func until(ctx context.Context, limit time.Duration, try func() error) error {
	ended := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(ended) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// errMiscounted is an extender that does not have what there is.
var errMiscounted = errors.New("the extender does not have what there is")

// Check returns what is not as it has to be: the extender has what the clusters have.
func (r *Result) Check() error {
	if r.SeenNodes != r.Nodes || r.SeenPods != r.Pods {
		return fmt.Errorf("%w: it counts %d nodes and %d pods of %d and %d", errMiscounted, r.SeenNodes, r.SeenPods, r.Nodes, r.Pods)
	}
	return nil
}

// Print writes the figures as tables.
func (r *Result) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%d clusters, %d nodes, %d pods: synced after %.1f s, %.0f objects/s\n",
		r.Clusters, r.Nodes, r.Pods, r.SyncedSeconds, r.ListedPerSecond)
	fmt.Fprintf(out, "%.0f events/s of %.0f asked for, caught up after %.2f s\n", r.EventsPerSecond, r.AskedPerSecond, r.CaughtUpSeconds)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\t\tCPU s\t% of a CPU\tMiB\t")
	for _, line := range []struct {
		what, who string
		cost      Cost
		seconds   float64
	}{
		{"until synced", "extender", r.SyncedExtender, r.SyncedSeconds}, {"", "stand-in", r.SyncedStandIn, r.SyncedSeconds},
		{"under churn", "extender", r.ChurnExtender, r.ChurnSeconds}, {"", "stand-in", r.ChurnStandIn, r.ChurnSeconds},
	} {
		fmt.Fprintf(table, "%s\t%s\t%.1f\t%.0f\t%d\t\n", line.what, line.who, line.cost.CPUSeconds,
			100*line.cost.CPUSeconds/line.seconds, line.cost.ResidentBytes>>20)
	}
	return table.Flush()
}
