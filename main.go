// Command tessera lets many Kubernetes clusters work as one pool. Every part of it is a subcommand.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/admission"
	"github.com/tessera-k8s/tessera/extender"
	"github.com/tessera-k8s/tessera/internal/cli"
	"github.com/tessera-k8s/tessera/rebalance"
	"github.com/tessera-k8s/tessera/virtualnode"
)

func main() {
	root := &cobra.Command{
		Use:           "tessera",
		Short:         "Many Kubernetes clusters as one pool, so that the free pieces in each get used",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		extender.NewCommand(), virtualnode.NewCommand(), admission.NewCommand(), rebalance.NewCommand(),
		cli.NewStatusCommand(), cli.NewExplainCommand(), cli.NewWhatifCommand(), cli.NewOrphansCommand(), cli.NewClustersCommand(),
		cli.NewCheckCommand(),
	)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "tessera:", err)
		os.Exit(1)
	}
}
