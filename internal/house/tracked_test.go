package house_test

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is tracked works on every machine: it names no folder of the one it was written on, and no server that its
// modules came from.
func TestTrackedFilesNameNoMachine(t *testing.T) {
	t.Parallel()
	listing, err := run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		t.Fatal(err)
	}
	unwanted := machineNames(t)
	for name := range strings.SplitSeq(strings.TrimRight(string(listing), "\x00"), "\x00") {
		if filepath.Base(name) == "go.sum" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // Deleted and not yet committed, or a link.
		}
		for _, text := range unwanted {
			if before, _, found := bytes.Cut(data, []byte(text)); found {
				t.Errorf("%s:%d names %s, which is this machine's", name, 1+bytes.Count(before, []byte("\n")), text)
			}
		}
	}
}

// machineNames are the folders and module proxies that this machine is set up with.
func machineNames(t *testing.T) []string {
	t.Helper()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{here + "/"}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		names = append(names, home+"/")
	}
	environment, err := run("go", "env", "GOPROXY", "GOMODCACHE", "GOCACHE")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(environment), "\n")
	for _, proxy := range regexp.MustCompile(`[,|]`).Split(lines[0], -1) {
		if address, err := url.Parse(proxy); err == nil && address.Host != "" {
			names = append(names, address.Host)
		}
	}
	for _, folder := range lines[1:] {
		if len(folder) > 1 {
			names = append(names, folder)
		}
	}
	return names
}
