package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"
)

// The programs of bench/third, most of them a module each.
const (
	CoreDNS       = "coredns"
	MetricsServer = "metrics-server"
	E2E           = "e2e"
	Agnhost       = "agnhost"
	NoNewPrivs    = "nonewprivs"
)

// inImages are programs for containers, by their packages in the module of E2E.
var inImages = map[string]string{
	Agnhost: "k8s.io/kubernetes/test/images/agnhost", NoNewPrivs: "k8s.io/kubernetes/test/images/nonewprivs",
}

// Third gives the path of a program of bench/third, building it if the user's cache has none for its module and this Go. log
// takes the progress.
func Third(ctx context.Context, name string, log io.Writer) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	source, folder := ".", name
	flags := "-ldflags=-s -w"
	if image, ok := inImages[name]; ok {
		source, folder = image, E2E
		flags += " -linkmode=external -extldflags=-static" // Containers have no libc; tags would have everything compiled anew.
	}
	module := filepath.Join(root, "bench", "third", folder)
	var own []string // files
	if source == "." {
		if own, err = filepath.Glob(filepath.Join(module, "*.go")); err != nil {
			return "", fmt.Errorf("building %s: %w", name, err)
		}
	}
	key, err := thirdKey(module, own)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return cached(ctx, "third", name, key, log, func(file string) error {
		return goBuild(ctx, module, log, name, flags, "-o", file, source)
	})
}

// thirdKey is a hash over all that decides what the program contains: own are the files of the module that are in it.
func thirdKey(module string, own []string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return hashFiles(h, append(slices.Sorted(slices.Values(own)), filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum"))...)
}

// newBuildCommand gives `bench lab build`.
func newBuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build ahead of time what labs run: the control planes and the programs of bench/third (cold: minutes)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, log := cmd.Context(), cmd.ErrOrStderr()
			root, err := moduleRoot()
			if err != nil {
				return err
			}
			path, err := buildPlanes(ctx, root, log)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			for _, name := range []string{CoreDNS, MetricsServer, E2E, Agnhost, NoNewPrivs} {
				if path, err = Third(ctx, name, log); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			return nil
		},
	}
}
