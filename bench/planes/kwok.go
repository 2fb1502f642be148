package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
)

// runKWOK runs KWOK's controller, and beside it what makes up for its gaps: leases, nudges and the end of pods.
func runKWOK() {
	ctx := signals.SetupSignalContext()
	keeper, err := newKeeper(os.Args[1:])
	if err == nil {
		go keeper.run(ctx)
		err = kwok(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		os.Exit(1)
	}
}

// kwok reads --config and --v before cobra sees the flags, since the stages come from them.
func kwok(ctx context.Context) error {
	early := pflag.NewFlagSet("early", pflag.ContinueOnError)
	early.ParseErrorsAllowlist.UnknownFlags = true
	early.Usage = func() {}
	ctx, _ = log.InitFlags(ctx, early)
	ctx, err := config.InitFlags(ctx, early)
	if err != nil {
		return err
	}
	command := cmd.NewCommand(ctx)
	command.Version = "" // cobra's version flag clashes with the one that Kubernetes' packages register for all commands
	command.PersistentFlags().AddFlagSet(early)
	return command.ExecuteContext(ctx)
}
