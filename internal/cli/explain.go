package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// NewExplainCommand returns `tessera explain`.
func NewExplainCommand() *cobra.Command {
	var flags extenderFlags
	command := &cobra.Command{
		Use:     "explain pod NAMESPACE/NAME",
		Short:   "Say where a pod stands and why: what the clusters answered, or why nobody asked",
		Example: "  tessera explain pod shop/web-0 --extender http://127.0.0.1:10259",
		Args:    cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			namespace, name, found := strings.Cut(args[1], "/")
			if args[0] != "pod" || !found {
				return fmt.Errorf("explain: %q is not of the form: pod NAMESPACE/NAME", strings.Join(args, " "))
			}
			extender, err := flags.reach()
			if err != nil {
				return err
			}
			answer, err := extender.Explain(command.Context(), namespace, name)
			if err != nil {
				return err
			}
			return printAnswer(&flags.daemonFlags, command.OutOrStdout(), answer, printExplanation)
		},
	}
	flags.add(command)
	return command
}

func printExplanation(out io.Writer, e wire.Explanation) error {
	fmt.Fprintf(out, "Pod %s/%s: ", e.Namespace, e.Name)
	switch {
	case e.Why != "":
		fmt.Fprintln(out, e.Why)
	case e.Chosen != "":
		fmt.Fprintf(out, "goes to %s.\n", e.Chosen)
	case e.NextRetry != nil:
		fmt.Fprintf(out, "no cluster takes it now. Asked again as soon as room appears, at the latest at %s.\n", e.NextRetry.Format(time.RFC3339))
	default:
		fmt.Fprintln(out, "no cluster takes it now.")
	}
	if d := e.Decision; d != nil && d.Marked {
		fmt.Fprintf(out, "Admission: %s.\n", dash(settings(d.From)))
	}
	if e.When == nil {
		return nil
	}
	fmt.Fprintf(out, "Asked at %s:\n\n", e.When.Format(time.RFC3339))
	table := newTable(out, "CLUSTER", "FITS", "SCORE", "TIGHTEST NODE", "WHY NOT", "SHORT OF")
	for _, c := range e.Clusters {
		why := ""
		if !c.Fits {
			why = string(c.Reason) + ": " + c.Message
		}
		table.row(c.Name, yes(c.Fits), c.Score, dash(c.BestNode), dash(why), dash(amounts(c.Short)))
	}
	return table.flush()
}

// settings prints where admission has its settings from as "policy from the namespace, architecture from the config".
func settings(from map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(from)) {
		parts = append(parts, name+" from the "+from[name])
	}
	return strings.Join(parts, ", ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// amounts prints resources as "cpu=2, memory=1Gi".
func amounts(resources map[string]string) string {
	parts := make([]string, 0, len(resources))
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		parts = append(parts, name+"="+resources[name])
	}
	return strings.Join(parts, ", ")
}
