package cli

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/ask"
)

// orphan is what the table shows of /debug/orphans.
type orphan struct {
	Cluster, Namespace, Name            string
	UpperNamespace, UpperName, UpperUID string
	Finished, Brake                     bool
	Since                               time.Time
}

type orphanList struct{ Orphans []orphan }

// NewOrphansCommand returns `tessera orphans`.
func NewOrphansCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "orphans",
		Short: "Show and collect lower pods whose upper pod is not there any more",
		Long: `Lower pods whose upper pod is not there, though nobody saw its deletion: the upper cluster was restored from a backup, or
virtualnode was away. They are collected after orphanGrace, unless they are many: then the condition tessera.sh/OrphanBrake of
the virtual node is True, and they wait for a decision.`,
	}
	command.AddCommand(newOrphansListCommand(), newOrphansCollectCommand())
	return command
}

func newOrphansListCommand() *cobra.Command {
	var flags daemonFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the orphans in all lower clusters",
		Example: "  tessera orphans list --virtualnode http://127.0.0.1:10261",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			answer, err := flags.orphans(command)
			if err != nil {
				return err
			}
			return printAnswer(&flags, command.OutOrStdout(), answer, printOrphans)
		},
	}
	flags.add(command, "virtualnode")
	flags.addOutput(command)
	return command
}

func newOrphansCollectCommand() *cobra.Command {
	var flags daemonFlags
	var cluster string
	var dryRun bool
	command := &cobra.Command{
		Use:   "collect",
		Short: "Delete those that are orphans now, whatever the brake and orphanGrace say",
		Long: `Deletes those that are orphans now, whatever the brake and orphanGrace say. Upper pods whose lower pods are missing, so many
of them that nobody believes it (TooManyMissing), are taken for gone as well: their controllers make others.`,
		Example: `  tessera orphans collect --dry-run --virtualnode http://127.0.0.1:10261
  tessera orphans collect --cluster paris --virtualnode http://127.0.0.1:10261`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			out := command.OutOrStdout()
			answer, err := flags.orphans(command)
			if err != nil {
				return err
			}
			found, clusters := answer.Value, answer.Value.clusters()
			if cluster != "" {
				clusters = []string{cluster} // Upper pods may be missing there without there being an orphan.
				found.Orphans = slices.DeleteFunc(found.Orphans, func(o orphan) bool { return o.Cluster != cluster })
			}
			if dryRun {
				return printOrphans(out, found)
			}
			return flags.collect(command, clusters)
		},
	}
	flags.add(command, "virtualnode")
	command.Flags().StringVar(&cluster, "cluster", "", "of this lower cluster alone")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "list what would be deleted and delete nothing")
	return command
}

// clusters names the clusters that have orphans, in order.
func (l orphanList) clusters() []string {
	var names []string
	for _, o := range l.Orphans {
		names = append(names, o.Cluster)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// orphans asks for the orphans of all clusters.
func (f *daemonFlags) orphans(command *cobra.Command) (ask.Answer[orphanList], error) {
	daemon, err := f.reach()
	if err != nil {
		return ask.Answer[orphanList]{}, err
	}
	return ask.JSON[orphanList](command.Context(), daemon, http.MethodGet, "/debug/orphans", nil)
}

func (f *daemonFlags) collect(command *cobra.Command, clusters []string) error {
	daemon, err := f.reach()
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		fmt.Fprintln(command.OutOrStdout(), "There are no orphans.")
	}
	for _, cluster := range clusters {
		question := map[string]string{"cluster": cluster}
		answer, err := ask.JSON[orphanList](command.Context(), daemon, http.MethodPost, "/v1/orphans/collect", question)
		if err != nil {
			return err
		}
		fmt.Fprintf(command.OutOrStdout(), "%s: %d orphans are being deleted.\n", cluster, len(answer.Value.Orphans))
	}
	return nil
}

func printOrphans(out io.Writer, list orphanList) error {
	table := newTable(out, "CLUSTER", "POD BELOW", "POD ABOVE", "UID ABOVE", "FINISHED", "SINCE", "BRAKE")
	for _, o := range list.Orphans {
		table.row(o.Cluster, o.Namespace+"/"+o.Name, o.UpperNamespace+"/"+o.UpperName, o.UpperUID, yes(o.Finished),
			o.Since.Format(time.RFC3339), yes(o.Brake))
	}
	return table.flush()
}
