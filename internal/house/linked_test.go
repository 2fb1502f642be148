package house_test

import (
	"slices"
	"strings"
	"testing"
)

// The product binary holds no control plane: it would grow by 150 MB and by every fault of theirs.
func TestProductLinksNoControlPlane(t *testing.T) {
	t.Parallel()
	linked, err := goList("-deps", ".")
	if err != nil {
		t.Fatal(err)
	}
	importers := map[string]string{} // package -> one that imports it
	for _, p := range linked {
		for _, path := range p.Imports {
			if _, known := importers[path]; !known {
				importers[path] = p.ImportPath
			}
		}
	}
	within := func(path string) bool {
		return slices.ContainsFunc(controlPlane, func(folder string) bool { return inFolder(path, folder) })
	}
	for _, p := range linked {
		for _, path := range p.Imports {
			if within(path) && !within(p.ImportPath) {
				t.Errorf("the product binary links %s, through %s%s: it may hold no etcd server, no Kubernetes command, no kubelet and no KWOK",
					path, p.ImportPath, chain(importers, p.ImportPath))
			}
		}
	}
}

// chain names who imports a package, up to the first of ours; "" for one of ours.
func chain(importers map[string]string, path string) string {
	var steps []string
	for len(steps) < 20 && !inFolder(path, module) && importers[path] != "" {
		path = importers[path]
		steps = append(steps, " <- "+path)
	}
	return strings.Join(steps, "")
}

func TestMainIsADoorway(t *testing.T) {
	t.Parallel()
	if lines := strings.Count(readFile(t, "main.go"), "\n"); lines > 40 {
		t.Errorf("main.go has %d lines, at most 40: what does work belongs into a package that a test can import", lines)
	}
}
