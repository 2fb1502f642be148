package frag

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// defaultNodes is the number of nodes of a cluster.
const defaultNodes = 100

// Options says what is simulated.
type Options struct {
	Seed     int64
	Clusters int
	// Nodes is per cluster; 0 is defaultNodes or, with Trace, all of the trace's.
	Nodes int
	// Pods is the demand; 0 is about 130 % of the GPUs.
	Pods int
	// Rate is arrivals a second. Delay is from the bind above to the pod below. Lifetime is a pod's mean; 0 is for ever.
	Rate     float64
	Delay    time.Duration
	Lifetime time.Duration
	Policies []string
	// Trace is a folder with nodes.csv and pods.csv of the openb trace; "" draws from its histograms.
	Trace string
}

// Result is how a policy ended.
type Result struct {
	Policy string `json:"policy"`
	Asked  int    `json:"asked"`
	// Placed: ran on a lower node. StuckBelow: bound above, no node below at the end. PendingAbove: neither.
	Placed       int `json:"placed"`
	StuckBelow   int `json:"stuckBelow"`
	PendingAbove int `json:"pendingAbove"`
	// RefusedWithRoom: pending at the end although a node has room.
	RefusedWithRoom int `json:"refusedWithRoom"`
	// FalseAccepts: bound to a cluster whose scheduler found no node at once. FalseRefusals: refused at
	// least once although a cluster that nothing was on its way to had room.
	FalseAccepts  int `json:"falseAccepts"`
	FalseRefusals int `json:"falseRefusals"`
	// CPUAllocated and GPUAllocated are shares of what all nodes have, 0 to 1.
	CPUAllocated float64 `json:"cpuAllocated"`
	GPUAllocated float64 `json:"gpuAllocated"`
	// Decisions were made at so many a second of real time, on one core.
	Decisions          int     `json:"decisions"`
	DecisionsPerSecond float64 `json:"decisionsPerSecond"`
}

// Report is what --json writes.
type Report struct {
	Seed     int64    `json:"seed"`
	Clusters int      `json:"clusters"`
	Nodes    int      `json:"nodes"` // of all clusters
	Pods     int      `json:"pods"`
	Delay    string   `json:"delay"`
	Policies []Result `json:"policies"`
}

// NewCommand returns `bench frag`.
func NewCommand() *cobra.Command {
	o := Options{}
	var file string
	command := &cobra.Command{
		Use:   "frag",
		Short: "Simulate ways to choose a lower cluster on fragmented ones",
		Long: `Simulates an upper cluster over fragmented lower ones in virtual time, with the production fit, score and holds.

Policies:
  aggregate        a virtual node is the sum of its nodes; the stock scheduler chooses
  every-node       every node is looked at, and the answer is not remembered
  tessera-no-hint  and room is held, but the lower scheduler does not know where
  tessera          and the lower scheduler is told where
  oracle           one flat cluster with the same score and no delay: what the seams between clusters cost

It fails if the policy tessera left a pod stuck below, or refused one that had room.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := Run(o)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if err := write(file, report); err != nil {
				return err
			}
			return report.Check()
		},
	}
	flags := command.Flags()
	flags.Int64Var(&o.Seed, "seed", 1, "seed of the workload")
	flags.IntVar(&o.Clusters, "clusters", 3, "lower clusters")
	flags.IntVar(&o.Nodes, "nodes", 0, fmt.Sprintf("nodes per cluster (default %d, or all nodes of the trace)", defaultNodes))
	flags.IntVar(&o.Pods, "pods", 0, "pods (default: 7 a node, about 130 % of the GPUs)")
	flags.Float64Var(&o.Rate, "rate", 50, "arrivals a second")
	flags.DurationVar(&o.Delay, "delay", 500*time.Millisecond, "from the bind above to the pod below")
	flags.DurationVar(&o.Lifetime, "lifetime", 0, "mean lifetime of a pod (0: for ever)")
	flags.StringSliceVar(&o.Policies, "policies", Policies, "policies to compare")
	flags.StringVar(&o.Trace, "trace", "", "folder with nodes.csv and pods.csv of the openb trace")
	flags.StringVar(&file, "json", "", "file to write the figures to")
	return command
}

func (o Options) validate() error {
	var errs []error
	if o.Clusters < 1 || o.Nodes < 0 || o.Pods < 0 {
		errs = append(errs, errors.New("--clusters needs at least 1; --nodes and --pods are not negative"))
	}
	if o.Rate <= 0 || o.Delay < 0 || o.Lifetime < 0 {
		errs = append(errs, errors.New("--rate is positive; --delay and --lifetime are not negative"))
	}
	if len(o.Policies) == 0 {
		errs = append(errs, errors.New("--policies: none given"))
	}
	for _, name := range o.Policies {
		if !slices.Contains(Policies, name) {
			errs = append(errs, fmt.Errorf("--policies: %q is none of %s", name, strings.Join(Policies, ", ")))
		}
	}
	return errors.Join(errs...)
}

// Run simulates every policy on the same workload.
func Run(o Options) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	w, err := newWorkload(o)
	if err != nil {
		return nil, err
	}
	report := &Report{Seed: o.Seed, Clusters: o.Clusters, Pods: len(w.pods), Delay: o.Delay.String()}
	for _, nodes := range w.clusters {
		report.Nodes += len(nodes)
	}
	for _, name := range o.Policies {
		report.Policies = append(report.Policies, simulate(name, w, o))
	}
	return report, nil
}

// Check is the promise: Tessera sends no pod where it does not fit, and refuses none that fits.
func (r *Report) Check() error {
	for _, p := range r.Policies {
		if p.Policy == Tessera && (p.FalseAccepts > 0 || p.StuckBelow > 0 || p.RefusedWithRoom > 0 || p.FalseRefusals > 0) {
			return fmt.Errorf("policy tessera broke its promise: %d false accepts, %d stuck below, %d refused with room, %d false refusals",
				p.FalseAccepts, p.StuckBelow, p.RefusedWithRoom, p.FalseRefusals)
		}
	}
	return nil
}

func print(out io.Writer, r *Report) error {
	fmt.Fprintf(out, "%d clusters, %d nodes, %d pods, seed %d, %s from bind to the pod below\n\n",
		r.Clusters, r.Nodes, r.Pods, r.Seed, r.Delay)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "policy\tplaced\tstuck below\tpending above\trefused with room\t"+
		"false accepts\tfalse refusals\tCPU used\tGPU used\tdecisions/s\t")
	for _, p := range r.Policies {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f%%\t%.1f%%\t%.0f\t\n", p.Policy, p.Placed, p.StuckBelow, p.PendingAbove,
			p.RefusedWithRoom, p.FalseAccepts, p.FalseRefusals, 100*p.CPUAllocated, 100*p.GPUAllocated, p.DecisionsPerSecond)
	}
	return table.Flush()
}

func write(path string, r *Report) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding figures: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return nil
}
