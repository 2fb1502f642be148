package house_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goMod is what `go mod edit -json` says of a module.
type goMod struct {
	Require []struct{ Path, Version string }
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

func readMod(t *testing.T, folder string) goMod {
	t.Helper()
	out, err := run("go", "mod", "edit", "-json", filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var mod goMod
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

// versions are those that a module builds with, as far as its go.mod names them.
func (m goMod) versions() map[string]string {
	all := map[string]string{}
	for _, r := range m.Require {
		all[r.Path] = r.Version
	}
	for _, r := range m.Replace {
		all[r.Old.Path] = r.New.Version
	}
	return all
}

// The programs of bench/third are built beside the main module, and what both have in common is compiled once, if it is of one
// version. So Kubernetes is, and what is replaced there is replaced for this alone.
func TestThirdModulesHaveTheVersionsOfTheMainModule(t *testing.T) {
	t.Parallel()
	main := readMod(t, ".").versions()
	for _, folder := range third(t) {
		mod := readMod(t, folder)
		for path, version := range mod.versions() {
			if ours, both := main[path]; both && strings.HasPrefix(path, "k8s.io/") && ours != version {
				t.Errorf("%s/go.mod: %s is %s, here and in the main module it is to be the same: go get %s@%s there, then make fix",
					folder, path, version, path, ours)
			}
		}
		for _, r := range mod.Replace {
			if ours := main[r.Old.Path]; r.New.Path != r.Old.Path || r.New.Version != ours {
				t.Errorf("%s/go.mod replaces %s by %s %s: only by the version of the main module, which is %q", folder, r.Old.Path, r.New.Path, r.New.Version, ours)
			}
		}
	}
}

// What tests run stays out of the product's list of dependencies.
func TestMainModuleRequiresNoThirdProgram(t *testing.T) {
	t.Parallel()
	main := readMod(t, ".").versions()
	for _, program := range []string{"github.com/coredns/coredns", "sigs.k8s.io/metrics-server", "helm.sh/helm/v3", "helm.sh/helm/v4"} {
		if version, required := main[program]; required {
			t.Errorf("go.mod requires %s %s: it belongs into a module of its own below bench/third", program, version)
		}
	}
	for _, file := range goFiles(t) {
		if inside := strings.HasPrefix(file.path, "bench/third/"); inside && !slices.Contains(third(t), filepath.ToSlash(filepath.Dir(file.path))) {
			t.Errorf("%s: each folder of bench/third is a module of its own", file.path)
		}
	}
}

// third are the folders of the modules below bench/third.
func third(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "bench/third/*/go.mod"))
	if err != nil || len(files) == 0 {
		t.Fatalf("finding the modules of bench/third: %v, %v", files, err)
	}
	var folders []string
	for _, file := range files {
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(root, folder, "go.sum")); err != nil {
			t.Errorf("%s: %v", folder, err)
		}
		folders = append(folders, filepath.ToSlash(folder))
	}
	return folders
}
