package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// Report is what --json writes.
type Report struct {
	Seed  uint64       `json:"seed"`
	Hints []HintResult `json:"hints,omitempty"`
}

// loads are what --only chooses from.
var loads = []string{"hints"}

// NewCommand returns `bench load`.
func NewCommand() *cobra.Command {
	burst := Burst{Clusters: 3, Pods: 300, Seed: 11}
	rounds := 2
	only := loads
	var file string
	command := &cobra.Command{
		Use:   "load",
		Short: "Put load on real control planes and count what becomes of it",
		Long: `Starts a lab and puts load on it. What is counted comes from the API servers and the events of the lower schedulers.

Loads:
  hints   a burst of pods for which there are exactly the holes, with each way to tell the lower scheduler where room
          is held: how many pods run, how many it lacked room for, pods a second
`,
		Example: "  go run ./bench load\n  go run ./bench load --only hints --pods 300 --rounds 3 --json load.json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			for _, name := range only {
				if !slices.Contains(loads, name) {
					return fmt.Errorf("--only %q: there is no such load (loads: %s)", name, strings.Join(loads, ", "))
				}
			}
			if burst.Pods < 1 || burst.Clusters < 1 || rounds < 1 {
				return fmt.Errorf("--pods, --clusters and --rounds need at least 1")
			}
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			report, err := run(ctx, command.OutOrStdout(), burst, rounds)
			if err != nil {
				return err
			}
			if err := write(file, report); err != nil {
				return err
			}
			return report.Check()
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&only, "only", only, "loads to run")
	flags.IntVar(&burst.Clusters, "clusters", burst.Clusters, "lower clusters")
	flags.IntVar(&burst.Pods, "pods", burst.Pods, "pods of a burst")
	flags.IntVar(&rounds, "rounds", rounds, "rounds of each kind")
	flags.Uint64Var(&burst.Seed, "seed", burst.Seed, "order of the holes and of the pods")
	flags.StringVar(&file, "json", "", "file to write the figures to")
	return command
}

func run(ctx context.Context, out io.Writer, burst Burst, rounds int) (*Report, error) {
	options := burst.Lab()
	options.Log = out
	l, err := lab.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer l.Stop()
	report := &Report{Seed: burst.Seed}
	started := time.Now()
	report.Hints, err = Hints(ctx, l, burst, rounds, func(format string, args ...any) {
		fmt.Fprintf(out, "%4.0f s  "+format+"\n", append([]any{time.Since(started).Seconds()}, args...)...)
	})
	if err != nil {
		return nil, err
	}
	return report, printHints(out, report.Hints)
}

func printHints(out io.Writer, results []HintResult) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nhint\tpods\trun\tover-promised\tpods/s\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%.0f\t\n", r.Mode, r.Pods, r.Running, r.OverPromised, r.PodsPerSecond)
	}
	return table.Flush()
}

func write(file string, report *Report) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return os.WriteFile(file, append(data, '\n'), 0o644) //nolint:gosec // Figures are for everyone.
}

// Check returns what is not as it has to be: with the default hint every pod runs and no lower scheduler lacked room.
func (r *Report) Check() error {
	for _, h := range r.Hints {
		if h.Mode == HintModes[0] && (h.Running < h.Pods || h.OverPromised > 0 || h.Holds > 0) {
			return fmt.Errorf("hint %s: %d of %d pods run, %d over-promised, %d holds left", h.Mode, h.Running, h.Pods, h.OverPromised, h.Holds)
		}
	}
	return nil
}
