// Command launch is `go run ./bench` for those who run it for the first time: it builds bin/bench, telling how far it is
// instead of a line for each module, and becomes it. make uses it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/tessera-k8s/tessera/bench/gobuild"
)

func main() {
	if err := launch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// launch builds in the working directory, which is the module's root, and returns only with an error.
func launch(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := filepath.Join("bin", "bench")
	build := gobuild.Build{Root: ".", What: "bench", Args: []string{"-o", program, "./bench"}, Log: os.Stdout}
	if err := build.Run(ctx); err != nil {
		return err
	}
	if err := syscall.Exec(program, append([]string{program}, args...), os.Environ()); err != nil {
		return fmt.Errorf("running %s: %w", program, err)
	}
	return nil
}
