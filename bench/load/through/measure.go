package through

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// Options say how much load there is.
type Options struct {
	// Rate is the pods offered a second, for Seconds, in each of Rounds rounds.
	Rate, Seconds int
	// Pods are created at once at saturation, in as many rounds.
	Pods, Rounds int
	// Profiles is a folder for processor profiles of the steady load and of each burst; "" takes none.
	Profiles string
}

// The bars of the figures. Missing one is no failure: figures are not a test.
const (
	barShare = 0.98 // of the offered pods run
	barMs    = 200  // beyond the echo's p99, 99 of 100 pods come down, and up, within
	barFloor = 0.9  // of the floor program's pods a second
)

// Result is what pods through virtualnode came to.
type Result struct {
	Offered
	Saturation
	// Lost are pods that never ran, of all loads together.
	Lost int `json:"lost"`
}

// Measure starts a lab and plays the loads.
func Measure(ctx context.Context, out io.Writer, o Options, progress Progress) (*Result, error) {
	if o.Profiles != "" {
		if err := os.MkdirAll(o.Profiles, 0o755); err != nil { //nolint:gosec // For everyone.
			return nil, fmt.Errorf("creating the folder for profiles: %w", err)
		}
	}
	var s *site
	// The lab's names are known before it runs.
	extender, err := startHolds("lower-1", lowerNodes, func(i int) string { return s.lab.NodeName(1, i) })
	if err != nil {
		return nil, err
	}
	defer extender.close()
	s, err = newSite(ctx, out, progress, map[string]any{"extender": extender.url, "hint": "off"})
	if err != nil {
		return nil, err
	}
	defer s.lab.Stop()
	s.profiles = o.Profiles
	result := &Result{}
	if result.Offered, result.Lost, err = s.offer(ctx, o.Rate, o.Seconds, o.Rounds); err != nil {
		return nil, err
	}
	saturation, err := s.saturate(ctx, o.Pods, o.Rounds)
	if err != nil {
		return nil, err
	}
	result.Saturation = *saturation
	result.Lost += saturation.lost()
	return result, nil
}

// Check is an error if pods were lost. That a figure falls short of its bar is none.
func (r *Result) Check() error {
	if r.Lost > 0 {
		return fmt.Errorf("virtualnode: %d pods never ran", r.Lost)
	}
	return nil
}

// Print writes the figures as tables.
func (r *Result) Print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value, bar string, ok bool) {
		verdict := ""
		if bar != "" {
			verdict = map[bool]string{true: "OK", false: "short"}[ok]
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, value, bar, verdict)
	}
	ms := func(name string, f latency.Figure) {
		row(name, f.String(), fmt.Sprintf("p99 < %d ms beyond the echo's", barMs), f.P99BeyondEchoMs < barMs)
	}
	fmt.Fprintln(table, "\nTHROUGH VIRTUALNODE\tFIGURE\tBAR\t")
	row("offered pods that run", fmt.Sprintf("%.1f %% of %d", 100*r.OfferedShare, r.OfferedPods), ">= 98 %", r.OfferedShare >= barShare)
	ms("bound above to created below", r.BindToCreated)
	ms("running below to reported above", r.RunningToReported)
	row("at saturation, no hints", fmt.Sprintf("%.0f pods/s, %.2f of the floor", r.ViaPodsPerSecond, r.ViaToFloor),
		fmt.Sprintf(">= %.1f", barFloor), r.ViaToFloor >= barFloor)
	row("at saturation, hints nominated", fmt.Sprintf("%.0f pods/s, %.2f of the floor with hints", r.HintedPodsPerSecond, r.ViaToFloorHinted),
		fmt.Sprintf(">= %.1f", barFloor), r.ViaToFloorHinted >= barFloor)
	row("the same to the floor without", fmt.Sprintf("%.2f", r.HintedToFloor), "", true)
	row("floor program: no hints / hints", fmt.Sprintf("%.0f / %.0f pods/s", r.FloorPodsPerSecond, r.FloorHintedPodsPerSecond), "", true)
	row("created directly below", fmt.Sprintf("%.0f pods/s", r.DirectPodsPerSecond), "", true)
	row("writes a pod: no hints / floor / hints / floor", fmt.Sprintf("%.2f / %.2f / %.2f / %.2f",
		r.WritesPerPod, r.FloorWritesPerPod, r.HintedWritesPerPod, r.FloorHintedWritesPerPod), "", true)
	row("resident memory with the offered pods", fmt.Sprintf("%d MiB", r.ResidentBytes>>20), "", true)
	row("lost pods", fmt.Sprint(r.Lost), "0", r.Lost == 0)
	if err := table.Flush(); err != nil {
		return err
	}
	if err := r.printCosts(out, "processor ms a pod", func(run Run) map[string]float64 { return run.CPUMsPerPod }); err != nil {
		return err
	}
	return r.printCosts(out, "accepted calls a pod", func(run Run) map[string]float64 { return run.Calls })
}

// printCosts writes a table with a column for each way.
func (r *Result) printCosts(out io.Writer, title string, of func(Run) map[string]float64) error {
	ways := []string{wayOffered, wayVia, wayFloor, wayHinted, wayFloorHinted, wayDirect}
	columns := map[string]map[string]float64{}
	names := map[string]bool{}
	fmt.Fprintf(out, "\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t", title)
	for _, way := range ways {
		fmt.Fprintf(table, "%s\t", way)
		run := mean(r.Rounds[way])
		if way == wayOffered {
			run = Run{CPUMsPerPod: r.CPUMsPerPod, Calls: r.Calls}
		}
		columns[way] = of(run)
		for name, value := range columns[way] {
			if value >= 0.005 {
				names[name] = true
			}
		}
	}
	fmt.Fprintln(table)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(table, "%s\t", name)
		for _, way := range ways {
			fmt.Fprintf(table, "%.2f\t", columns[way][name])
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// PrintMemory writes the memory as a table.
func PrintMemory(out io.Writer, all []Memory) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nvirtual nodes\tMiB without pods\tMiB with pods\tpods on each\t")
	for _, m := range all {
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t\n", m.VirtualNodes, m.ResidentBytes>>20, m.ResidentBytesPods>>20, m.Pods)
	}
	return table.Flush()
}
