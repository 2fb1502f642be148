package standin

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// readyLine begins the line that says that all clusters answer; the rest of it is the control URL.
const readyLine = "standin: ready "

// NewCommand returns `bench standin`.
func NewCommand() *cobra.Command {
	options := DefaultOptions()
	var tied bool
	every := 10 * time.Second
	command := &cobra.Command{
		Use:   "standin",
		Short: "Play the API servers of many lower clusters in one process",
		Long: `Plays lower clusters: API servers that serve list and watch as client-go asks for them and take writes, and the schedulers,
kubelets and controllers behind them. One file NAME.kubeconfig a cluster is written into the folder, which is what Tessera's
registry of clusters takes. It serves until Ctrl-C, and takes the files away then.

It prints its own processor time and memory, since a stand-in slower than what is measured measures itself. The control URL
that it prints answers GET /stats, and POST /rates?churn=2000&heartbeat=1m changes what is played.`,
		Example: "  go run ./bench standin --clusters 3 --nodes 100 --pods 1000 --dir .standin\n" +
			"  go run ./bench standin --clusters 100 --nodes 1000 --pods 10000 --seed 1 --dir .standin --churn 2000 --heartbeat 5m\n" +
			"  go run ./bench standin follow --dir .standin",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if tied {
				ctx = whileOpen(ctx, command.InOrStdin())
			}
			return run(ctx, command.OutOrStdout(), options, every)
		},
	}
	flags := command.Flags()
	options.addFlags(flags)
	flags.DurationVar(&every, "every", every, "how often to print a line about itself; 0: never")
	flags.BoolVar(&tied, "tied", false, "end when the standard input does")
	_ = flags.MarkHidden("tied") // The flag exists.
	command.AddCommand(newFollowCommand())
	return command
}

// whileOpen ends with its parent, or when the input ends.
func whileOpen(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in) // How it ends does not matter.
		cancel()
	}()
	return ctx
}

// run serves until ctx ends.
func run(ctx context.Context, out io.Writer, o Options, every time.Duration) error {
	started := time.Now()
	s, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer s.Stop()
	before := s.Stats()
	fmt.Fprintf(out, "standin: %d clusters, %d nodes, %d pods after %.1f s and %.1f s of processor time, %d MiB resident; kubeconfigs in %s\n",
		before.Clusters, before.Nodes, before.Pods, time.Since(started).Seconds(), before.CPUSeconds, before.ResidentBytes>>20, o.Dir)
	fmt.Fprintf(out, "%s%s\n", readyLine, s.ControlURL())
	if every <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := s.Stats()
		fmt.Fprintln(out, "standin:", now.since(before, every))
		before = now
	}
}

// since says what has been done since.
func (s Stats) since(before Stats, passed time.Duration) string {
	rate := func(now, then int64) float64 { return float64(now-then) / passed.Seconds() }
	return fmt.Sprintf("%3.0f %% of a processor, %d MiB resident (%d at most), %d watches, %.0f events/s sent, %.0f played, "+
		"%.0f objects/s listed, %.1f MB/s",
		100*(s.CPUSeconds-before.CPUSeconds)/passed.Seconds(), s.ResidentBytes>>20, s.PeakBytes>>20, s.Watches, rate(s.Events, before.Events),
		rate(s.Churned+s.Heartbeats, before.Churned+before.Heartbeats), rate(s.Listed+s.Initial, before.Listed+before.Initial),
		rate(s.Bytes, before.Bytes)/1e6)
}
