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
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/bench/load/latency"
	"github.com/tessera-k8s/tessera/bench/load/streams"
	"github.com/tessera-k8s/tessera/bench/load/through"
)

// NewCommand returns `bench load`.
func NewCommand() *cobra.Command {
	options := options{clusters: 3, seed: 11, rate: 50, seconds: 20, nodes: 100, churn: 500}
	var only []string
	for _, l := range loads {
		only = append(only, l.name)
	}
	var file string
	command := &cobra.Command{
		Use:   "load",
		Short: "Put load on real control planes and count what becomes of it",
		Long: `Starts a lab for each load and puts load on it. What is counted comes from the API servers and the events of the lower
schedulers. It fails if the outcome is wrong (pods lost, doubled or over-promised, bytes lost); figures that fall short of their bars
are shown as short and are no failure.

Loads:
` + describe(),
		Example: "  go run ./bench load\n" +
			"  go run ./bench load --only lifecycles --pods 500 --seed 7\n" +
			"  go run ./bench load --only hints --pods 300 --rounds 3 --json load.json\n" +
			"  go run ./bench load --only virtualnode --rounds 5 --json load.json\n" +
			"  go run ./bench load --only streams --rounds 3 --json load.json\n" +
			"  go run ./bench load --only standin --clusters 20 --nodes 100 --pods 1000 --churn 1000 --seconds 20\n" +
			"  go run ./bench load --only admission --rounds 5 --json load.json\n" +
			"  go run ./bench load --only virtualnode,memory --pods 100 --rate 20 --seconds 5 --rounds 1",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := options.validate(only); err != nil {
				return err
			}
			options.given = command.Flags().Changed
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			report, wrong, err := run(ctx, command.OutOrStdout(), only, options)
			if err != nil {
				return err
			}
			if err := write(file, report); err != nil {
				return err
			}
			return wrong
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&only, "only", only, "loads to run")
	flags.IntVar(&options.clusters, "clusters", options.clusters, "lower clusters (hints, standin, latency)")
	flags.IntVar(&options.nodes, "nodes", options.nodes, "nodes of each cluster (standin, latency)")
	flags.Float64Var(&options.churn, "churn", options.churn, "events a second that pods make in all clusters together (standin, latency)")
	flags.IntVar(&options.pods, "pods", 0, "pods of a burst, on each virtual node (memory), of each cluster (standin), or lifecycles; 0: "+
		defaults(func(l load) int { return l.pods }))
	flags.IntVar(&options.rounds, "rounds", 0, "rounds of each kind; 0: "+defaults(func(l load) int { return l.rounds }))
	flags.IntVar(&options.rate, "rate", options.rate, "pods offered a second (virtualnode)")
	flags.IntVar(&options.seconds, "seconds", options.seconds,
		"how long they are offered in each round (virtualnode, admission), how long pods come and go (standin)")
	flags.Uint64Var(&options.seed, "seed", options.seed,
		"order of the holes and of the pods (hints); who lives how and what is killed when (lifecycles); the clusters (standin)")
	flags.StringVar(&options.profiles, "profiles", "",
		"folder for processor profiles of the steady load and of each burst, for go tool pprof (virtualnode)")
	flags.StringVar(&file, "json", "", "file to write the figures to")
	command.AddCommand(through.NewFloorCommand(), latency.NewEchoCommand(), streams.NewRelayCommand())
	return command
}

// options are what the flags say; 0 pods or rounds are those of each load.
type options struct {
	clusters, pods, rounds, rate, seconds int
	seed                                  uint64
	nodes                                 int
	churn                                 float64
	profiles                              string
	given                                 func(flag string) bool
}

func (o options) validate(only []string) error {
	for _, name := range only {
		if !slices.ContainsFunc(loads, func(l load) bool { return l.name == name }) {
			return fmt.Errorf("--only %q: there is no such load (loads: %s)", name, strings.Join(loadNames(), ", "))
		}
	}
	if o.pods < 0 || o.rounds < 0 {
		return fmt.Errorf("--pods and --rounds cannot be negative")
	}
	if o.clusters < 1 || o.rate < 1 || o.seconds < 1 {
		return fmt.Errorf("--clusters, --rate and --seconds need at least 1")
	}
	if o.nodes < 1 || o.churn < 0 {
		return fmt.Errorf("--nodes needs at least 1, and --churn cannot be negative")
	}
	return nil
}

// run plays the loads one after the other. wrong says which outcomes are not as they have to be.
func run(ctx context.Context, out io.Writer, only []string, o options) (report *Report, wrong, err error) {
	started := time.Now()
	progress := func(format string, args ...any) {
		fmt.Fprintf(out, "%4.0f s  "+format+"\n", append([]any{time.Since(started).Seconds()}, args...)...)
	}
	report = &Report{Seed: o.seed}
	for _, l := range loads {
		if !slices.Contains(only, l.name) {
			continue
		}
		o := o
		if o.pods == 0 {
			o.pods = l.pods
		}
		if o.rounds == 0 {
			o.rounds = l.rounds
		}
		if err := l.play(ctx, out, o, report, progress); err != nil {
			return nil, nil, err
		}
	}
	return report, report.Check(), nil
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
