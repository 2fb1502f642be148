package gobuild

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	var told output
	write := func(text string) {
		t.Helper()
		if n, err := told.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := told.progress("planes", 65*time.Second); !strings.HasPrefix(got, "building planes: "+want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("0 modules downloaded, then it compiles; 1 min 5 s so far")
	write("go: downloading k8s.io/api v1.0.0\ngo: downloa")
	expect("1 modules downloaded")
	write("ding k8s.io/client-go v1.0.0\n")
	expect("2 modules downloaded")
	told.expect(1000)
	write("internal/abi\nfmt\n")
	expect("2 of at most 1000 packages compiled; 1 min 5 s so far")
	write(strings.Repeat("k8s.io/api/core/v1\n", 498))
	told.compiling = time.Now().Add(-100 * time.Second)
	expect("500 of at most 1000 packages compiled; 1 min 5 s so far, at most about 1 min 40 s to go")
	write("# k8s.io/api/core/v1\ntypes.go:7:1: syntax error\nlast words")
	if diff := cmp.Diff("# k8s.io/api/core/v1\ntypes.go:7:1: syntax error\nlast words", told.errors()); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s", diff)
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0 s", 59400 * time.Millisecond: "59 s", 60 * time.Second: "1 min 0 s", 754 * time.Second: "12 min 34 s"} {
		if got := span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

// In a log there is a line a minute and one at the end; a quick build says nothing.
func TestBuild(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n", "good/main.go": "package main\n\nfunc main() {}\n",
		"bad/main.go": "package main\n\nfunc main() { nowhere() }\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	build := func(ctx context.Context, name string) error {
		return Build{Root: root, What: name, Args: []string{"-ldflags", "-s -w", "-o", filepath.Join(root, "out"), "./" + name}, Log: &log}.Run(ctx)
	}
	if err := build(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, "out")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("no program was built: %v", err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(log.String()), "\n") {
		if line != "" && !strings.HasPrefix(line, "built good in ") {
			t.Errorf("log: %q", line)
		}
	}
	err := build(t.Context(), "bad")
	if err == nil || !strings.HasPrefix(err.Error(), "building bad: ") || !strings.Contains(err.Error(), "undefined: nowhere") {
		t.Errorf("a program with an error: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := build(ended, "good"); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("in an ended context: %v", err)
	}
}
