package serve

import (
	"context"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
)

// Daemon describes a part that runs until it is told to stop. C is its configuration.
type Daemon[C any] struct {
	// Name is the subcommand, Short its line in the list, Keys the documented configuration file, Example a
	// file and a call.
	Name, Short, Keys, Example string
	// Default returns the configuration that the file is read over.
	Default func() *C
	Run     func(ctx context.Context, config *C) error
}

// Command returns the subcommand of a part: --config FILE, and a --help that documents every key of the file.
func Command[C any](d Daemon[C]) *cobra.Command {
	var path string
	command := &cobra.Command{
		Use:     d.Name + " --config FILE",
		Short:   d.Short,
		Long:    d.Short + ".\n\nKeys of FILE (YAML) and their defaults:\n\n" + indent(d.Keys),
		Example: d.Example,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			config := d.Default()
			if err := Load(path, any(config).(Validator)); err != nil {
				return err
			}
			limitMemory()
			ctx, cancel := Context()
			defer cancel()
			return d.Run(ctx, config)
		},
	}
	command.Flags().StringVar(&path, "config", "", "configuration file (required)")
	return command
}

// memoryShare is how much of its container's memory a part uses before its collector works harder: the rest is for what Go does not
// count, and for peaks.
const memoryShare = 0.9

// limitMemory lets the collector know how much memory there is: without it, a part in a container grows to twice what it needs and
// is killed for it. GOMEMLIMIT in the environment has the last word. Where there is no limit nothing happens.
func limitMemory() {
	_, _ = memlimit.SetGoMemLimitWithOpts( // There is no limit where none can be read.
		memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup), memlimit.WithLogger(slog.New(slog.DiscardHandler)))
}
