package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// events turns "action package test output" into lines of go test -json.
func events(t *testing.T, list ...event) string {
	t.Helper()
	var lines strings.Builder
	for _, e := range list {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	return lines.String()
}

func said(test string, lines ...string) []event {
	var list []event
	for _, line := range lines {
		list = append(list, event{Action: "output", Package: "p", Test: test, Output: line + "\n"})
	}
	return list
}

func TestReport(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		events []event
		want   string
		counts [4]int // passed, failed, skipped, packages
	}{
		"a test that passed shows its figures and drops the noise of others": {
			events: append(said("TestA", "=== RUN   TestA", "noise", "    a_test.go:1: ready after 3 s", "--- PASS: TestA (0.10s)"),
				event{Action: "pass", Package: "p", Test: "TestA"}),
			want:   "--- PASS: TestA (0.10s)\n    a_test.go:1: ready after 3 s\n",
			counts: [4]int{1, 0, 0, 0},
		},
		"a part that was skipped is told with its reason": {
			events: append(said("TestA/b", "=== RUN   TestA/b", "    a_test.go:2: no containerd", "    --- SKIP: TestA/b (0.00s)"),
				event{Action: "skip", Package: "p", Test: "TestA/b"}, said("TestA", "--- PASS: TestA (0.00s)")[0],
				event{Action: "pass", Package: "p", Test: "TestA"}),
			want:   "--- PASS: TestA (0.00s)\n    a_test.go:2: no containerd\n    --- SKIP: TestA/b (0.00s)\n",
			counts: [4]int{1, 0, 0, 0},
		},
		"a test that failed shows everything": {
			events: append(said("TestA", "noise", "--- FAIL: TestA (0.00s)"), event{Action: "fail", Package: "p", Test: "TestA"}),
			want:   "noise\n--- FAIL: TestA (0.00s)\n",
			counts: [4]int{0, 1, 0, 0},
		},
		"a test that never ended is shown with its package": {
			events: append(said("TestA", "waiting"), event{Action: "fail", Package: "p"}),
			want:   "waiting\n",
			counts: [4]int{0, 0, 0, 1},
		},
		"what the compiler says is shown": {
			events: []event{{Action: "build-output", Output: "x.go:1: undefined: y\n"}, {Action: "fail", Package: "p"}},
			want:   "x.go:1: undefined: y\n",
			counts: [4]int{0, 0, 0, 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			r := &report{out: &out, output: map[string][]string{}}
			r.read(strings.NewReader(events(t, c.events...)))
			if out.String() != c.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
			}
			if got := [4]int{r.passed, r.failed, r.skipped, r.packages}; got != c.counts {
				t.Errorf("counted passed, failed, skipped, packages = %v, want %v", got, c.counts)
			}
		})
	}
}
