package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// NewStatusCommand returns `tessera status`.
func NewStatusCommand() *cobra.Command {
	var flags extenderFlags
	command := &cobra.Command{
		Use:     "status",
		Short:   "Show the lower clusters as the extender sees them",
		Example: "  tessera status --extender http://127.0.0.1:10259\n  tessera status --extender http://127.0.0.1:10259 -o json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			extender, err := flags.reach()
			if err != nil {
				return err
			}
			answer, err := extender.Clusters(command.Context())
			if err != nil {
				return err
			}
			return printAnswer(&flags.daemonFlags, command.OutOrStdout(), answer, printStatus)
		},
	}
	flags.add(command)
	return command
}

func printStatus(out io.Writer, answer wire.Clusters) error {
	table := newTable(out, "CLUSTER", "STATE", "NODES", "PODS", "HOLDS", "CPU FREE", "LARGEST HOLE", "MEMORY FREE", "LARGEST HOLE")
	for _, c := range answer.Clusters {
		table.row(c.Name, state(c), fmt.Sprintf("%d/%d", c.SchedulableNodes, c.Nodes), c.Pods, c.Holds,
			amount(c.Free, "cpu")+" of "+amount(c.Allocatable, "cpu"), amount(c.LargestHole, "cpu"),
			amount(c.Free, "memory")+" of "+amount(c.Allocatable, "memory"), amount(c.LargestHole, "memory"))
	}
	if err := table.flush(); err != nil {
		return err
	}
	for _, c := range answer.Clusters {
		if c.UnaskedBinds > 0 {
			fmt.Fprintf(out, "Warning: %s: scheduler does not call the extender: %d pods were bound without it (last: %s)\n",
				c.Name, c.UnaskedBinds, c.LastUnaskedBind)
		}
	}
	return nil
}

// state says in a word how well a cluster is known.
func state(c wire.Cluster) string {
	switch {
	case c.Stale:
		return "Stale: " + c.Error
	case !c.Synced && c.Error != "":
		return "NotSynced: " + c.Error
	case !c.Synced:
		return "NotSynced"
	case c.VirtualNode == "":
		return "NoVirtualNode"
	}
	return "Synced"
}

func amount(resources map[string]string, name string) string {
	if text := resources[name]; text != "" {
		return text
	}
	return "0"
}

// table prints columns of equal width.
type table struct{ writer *tabwriter.Writer }

func newTable(out io.Writer, header ...any) *table {
	t := &table{writer: tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.writer, "\t")
		}
		fmt.Fprint(t.writer, cell)
	}
	fmt.Fprintln(t.writer)
}

func (t *table) flush() error { return t.writer.Flush() }
