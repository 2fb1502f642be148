package frag

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// small is a world that simulates in well under a second.
func small(edit func(*Options)) Options {
	o := Options{Seed: 1, Clusters: 3, Nodes: 20, Pods: 420, Rate: 50, Delay: 500 * time.Millisecond, Policies: Policies}
	edit(&o)
	return o
}

func byPolicy(t *testing.T, o Options) map[string]Result {
	t.Helper()
	report, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]Result{}
	for _, r := range report.Policies {
		results[r.Policy] = r
		if r.Placed+r.StuckBelow+r.PendingAbove != r.Asked {
			t.Errorf("%s: %d placed + %d stuck + %d pending is not %d asked", r.Policy, r.Placed, r.StuckBelow, r.PendingAbove, r.Asked)
		}
	}
	return results
}

func TestTesseraKeepsThePromiseAndAggregateDoesNot(t *testing.T) {
	t.Parallel()
	cases := map[string]Options{
		"pods stay":      small(func(*Options) {}),
		"another seed":   small(func(o *Options) { o.Seed = 42 }),
		"slow mirror":    small(func(o *Options) { o.Delay = 10 * time.Second }),
		"no delay":       small(func(o *Options) { o.Delay = 0 }),
		"pods end":       small(func(o *Options) { o.Lifetime, o.Pods = 10*time.Second, 900 }),
		"many clusters":  small(func(o *Options) { o.Clusters, o.Nodes = 12, 5 }),
		"a single burst": small(func(o *Options) { o.Rate = 1e6 }),
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := byPolicy(t, o)
			for _, policy := range []string{Tessera, Oracle} {
				r := got[policy]
				if r.FalseAccepts != 0 || r.StuckBelow != 0 || r.RefusedWithRoom != 0 || r.FalseRefusals != 0 {
					t.Errorf("%s: want no fault: %+v", policy, r)
				}
			}
			if r := got[Aggregate]; r.FalseAccepts == 0 {
				t.Errorf("aggregate: want false accepts, else this world shows nothing: %+v", r)
			}
		})
	}
}

func TestAggregateLeavesPodsHanging(t *testing.T) {
	t.Parallel()
	got := byPolicy(t, small(func(*Options) {}))
	if r := got[Aggregate]; r.StuckBelow == 0 || r.RefusedWithRoom == 0 {
		t.Errorf("aggregate: want pods stuck below, and others refused because of them: %+v", r)
	}
	if r := got[EveryNode]; r.FalseAccepts == 0 {
		t.Errorf("every-node: want the same hole promised twice within the delay: %+v", r)
	}
}

func TestASeedIsAWorld(t *testing.T) {
	t.Parallel()
	o := small(func(o *Options) { o.Lifetime = 20 * time.Second })
	first, second := byPolicy(t, o), byPolicy(t, o)
	if diff := cmp.Diff(first, second, cmpopts.IgnoreFields(Result{}, "DecisionsPerSecond")); diff != "" {
		t.Errorf("the same seed twice (-first +second):\n%s", diff)
	}
	o.Seed++
	if diff := cmp.Diff(first, byPolicy(t, o), cmpopts.IgnoreFields(Result{}, "DecisionsPerSecond")); diff == "" {
		t.Error("another seed gives the same results")
	}
}

func TestTraceIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{
		"nodes.csv": "sn,cpu_milli,memory_mib,gpu,model\na,16000,65536,2,T4\nb,16000,65536,0,\n",
		"pods.csv": "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n" +
			"p,4000,1024,1,500,T4|P100\nq,8000,1024,2,1000,\nr,1000,1024,0,,\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readTrace(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := &trace{
		nodes: []shape{{16000, 65536, 2000, []string{"T4"}}, {16000, 65536, 0, nil}},
		pods:  []shape{{4000, 1024, 500, []string{"T4", "P100"}}, {8000, 1024, 2000, nil}, {1000, 1024, 0, nil}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(trace{}, shape{})); diff != "" {
		t.Error(diff)
	}
	r := byPolicy(t, small(func(o *Options) { o.Trace, o.Clusters, o.Nodes, o.Pods = dir, 1, 0, 2 }))[Tessera]
	if r.Placed != 1 || r.PendingAbove != 1 {
		t.Errorf("p takes half a GPU of node a and q wants both: want 1 placed and 1 pending, got %+v", r)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	broken := t.TempDir()
	for name, text := range map[string]string{"nodes.csv": "cpu_milli,memory_mib,gpu,model\nfour,1,0,\n", "pods.csv": "x\n"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		args []string
		want string
	}{
		"policy":       {[]string{"--policies", "random"}, `"random" is none of aggregate`},
		"clusters":     {[]string{"--clusters", "0"}, "--clusters needs at least 1"},
		"rate":         {[]string{"--rate", "0"}, "--rate is positive"},
		"no trace":     {[]string{"--trace", filepath.Join(broken, "nowhere")}, "no such file"},
		"broken trace": {[]string{"--trace", broken}, `line 2: "four" is not a whole number`},
		"argument":     {[]string{"surplus"}, "unknown command"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := NewCommand()
			command.SetArgs(c.args)
			command.SetOut(new(bytes.Buffer))
			command.SetErr(new(bytes.Buffer))
			if err := command.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestCommandWritesTableAndFigures(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "frag.json")
	var out bytes.Buffer
	command := NewCommand()
	command.SetOut(&out)
	command.SetArgs([]string{"--nodes", "10", "--pods", "100", "--policies", "aggregate,tessera", "--json", file})
	if err := command.Execute(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "stuck below") || !strings.Contains(out.String(), "tessera") {
		t.Errorf("the table lacks a column or a policy:\n%s", out.String())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var figures struct {
		Pods     int
		Policies []map[string]any
	}
	if err := json.Unmarshal(data, &figures); err != nil {
		t.Fatal(err)
	}
	if figures.Pods != 100 || len(figures.Policies) != 2 || figures.Policies[1]["refusedWithRoom"] != 0.0 {
		t.Errorf("unexpected figures:\n%s", data)
	}
}

func TestCheckFindsABrokenPromise(t *testing.T) {
	t.Parallel()
	kept := &Report{Policies: []Result{{Policy: Aggregate, StuckBelow: 3}, {Policy: Tessera}}}
	if err := kept.Check(); err != nil {
		t.Errorf("a kept promise: %v", err)
	}
	for _, r := range []Result{{StuckBelow: 1}, {FalseAccepts: 1}, {RefusedWithRoom: 1}, {FalseRefusals: 1}} {
		r.Policy = Tessera
		if err := (&Report{Policies: []Result{r}}).Check(); err == nil {
			t.Errorf("no error for %+v", r)
		}
	}
}
