package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// clusterStatus is what the table shows of /debug/clusters.
type clusterStatus struct {
	Name, VirtualNode, Error             string
	Synced, Stale                        bool
	Nodes, SchedulableNodes, Pods, Holds int
	Allocatable, Free, LargestHole       map[string]string
	UnaskedBinds                         int
	LastUnaskedBind                      string
}

// NewStatusCommand returns `tessera status`.
func NewStatusCommand() *cobra.Command {
	var flags extenderFlags
	command := &cobra.Command{
		Use:     "status",
		Short:   "Show the lower clusters as the extender sees them",
		Example: "  tessera status --extender http://127.0.0.1:10259\n  tessera status --extender http://127.0.0.1:10259 -o json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var answer struct{ Clusters []clusterStatus }
			printed, err := flags.ask(command.Context(), command.OutOrStdout(), "/debug/clusters", nil, &answer)
			if err != nil || printed {
				return err
			}
			return printStatus(command.OutOrStdout(), answer.Clusters)
		},
	}
	flags.add(command)
	return command
}

func printStatus(out io.Writer, clusters []clusterStatus) error {
	table := newTable(out, "CLUSTER", "STATE", "NODES", "PODS", "HOLDS", "CPU FREE", "LARGEST HOLE", "MEMORY FREE", "LARGEST HOLE")
	for _, c := range clusters {
		table.row(c.Name, c.state(), fmt.Sprintf("%d/%d", c.SchedulableNodes, c.Nodes), c.Pods, c.Holds,
			amount(c.Free, "cpu")+" of "+amount(c.Allocatable, "cpu"), amount(c.LargestHole, "cpu"),
			amount(c.Free, "memory")+" of "+amount(c.Allocatable, "memory"), amount(c.LargestHole, "memory"))
	}
	if err := table.flush(); err != nil {
		return err
	}
	for _, c := range clusters {
		if c.UnaskedBinds > 0 {
			fmt.Fprintf(out, "Warning: %s: scheduler does not call the extender: %d pods were bound without it (last: %s)\n",
				c.Name, c.UnaskedBinds, c.LastUnaskedBind)
		}
	}
	return nil
}

func (c clusterStatus) state() string {
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
