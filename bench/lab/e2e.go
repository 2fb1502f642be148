package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// ImportE2E gives every real node the images of Kubernetes' own specs, and returns the path of the program that runs those.
func (l *Lab) ImportE2E(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	specs, err := Third(ctx, E2E, l.options.Log)
	if err != nil {
		return "", err
	}
	files, err := l.e2eFiles(ctx, filepath.Join(root, "bench", "third", E2E))
	if err != nil {
		return "", err
	}
	archive, err := realnode.E2EImages(ctx, root, files)
	if err != nil {
		return "", err
	}
	for _, c := range l.clusters {
		if c.real == nil {
			continue
		}
		if err := c.real.Import(ctx, archive); err != nil {
			return "", err
		}
	}
	return specs, nil
}

// e2eFiles are the files of the images that are Kubernetes' own: programs, and what stands beside their sources.
func (l *Lab) e2eFiles(ctx context.Context, module string) (map[string][]byte, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	command.Dir = module
	sources, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("finding the sources of Kubernetes: %w", err)
	}
	porter := filepath.Join(strings.TrimSpace(string(sources)), "test", "images", "agnhost", "porter")
	paths := map[string]string{}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		paths[name] = filepath.Join(porter, name)
	}
	for name, program := range map[string]string{"agnhost": Agnhost, "nnp": NoNewPrivs} {
		if paths[name], err = Third(ctx, program, l.options.Log); err != nil {
			return nil, err
		}
	}
	files := map[string][]byte{}
	for name, path := range paths {
		if files[name], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading what goes into an image: %w", err)
		}
	}
	return files, nil
}
