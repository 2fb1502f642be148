package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
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
	key, err := thirdKey(module)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return cached(ctx, "third", name, key, log, func(file string) error {
		return goBuild(ctx, module, log, name, flags, "-o", file, source)
	})
}

// thirdKey is a hash over all that decides what the program contains.
func thirdKey(module string) (string, error) {
	sources, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return hashFiles(h, append(slices.Sorted(slices.Values(sources)), filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum"))...)
}
