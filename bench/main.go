// Command bench holds what is measured and tried with Tessera and is not part of the product: go run ./bench lab --help.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/bench/demo"
	"github.com/tessera-k8s/tessera/bench/frag"
	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load"
	"github.com/tessera-k8s/tessera/bench/standin"
)

func main() {
	root := &cobra.Command{
		Use:           "bench",
		Short:         "Labs, demonstrations and measurements for Tessera",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(demo.NewCommand(), frag.NewCommand(), lab.NewCommand(), load.NewCommand(), standin.NewCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
