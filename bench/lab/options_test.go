package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func TestParseShape(t *testing.T) {
	got, err := ParseShape("cpu=8, memory=32Gi,nvidia.com/gpu=4,count=3,cluster=2")
	if err != nil {
		t.Fatal(err)
	}
	want := Shape{Count: 3, Cluster: 2, Resources: list("cpu", "8", "memory", "32Gi", "pods", "110", "ephemeral-storage", "500Gi", "nvidia.com/gpu", "4")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, token := range map[string]string{
		"cpu": `"cpu"`, "cpu=": `"cpu="`, "cpu=lots": `"cpu=lots"`, "cpu=-1": `"cpu=-1"`, "gpu=1": `"gpu=1"`, "cpu=1,count=0": `"count=0"`, "cpu=1,count=x": `"count=x"`,
	} {
		if _, err := ParseShape(text); err == nil || !strings.Contains(err.Error(), token) {
			t.Errorf("ParseShape(%q): error %v does not name %s", text, err, token)
		}
	}
}

func TestNodeShapes(t *testing.T) {
	small, large, odd := list("cpu", "4"), list("cpu", "64"), list("cpu", "7")
	tests := map[string]struct {
		options Options
		want    []corev1.ResourceList
		fails   string
	}{
		"default":      {options: Options{Nodes: 1}, want: []corev1.ResourceList{defaultResources()}},
		"counts first": {options: Options{Nodes: 3, Shapes: []Shape{{Resources: small}, {Count: 1, Resources: large}}}, want: []corev1.ResourceList{large, small, small}},
		"in turn":      {options: Options{Nodes: 3, Shapes: []Shape{{Resources: small}, {Resources: large}}}, want: []corev1.ResourceList{small, large, small}},
		"counts alone": {options: Options{Shapes: []Shape{{Count: 2, Resources: odd}}}, want: []corev1.ResourceList{odd, odd}},
		"elsewhere":    {options: Options{Nodes: 1, Shapes: []Shape{{Cluster: 2, Count: 1, Resources: odd}, {Resources: small}}}, want: []corev1.ResourceList{small}},
		"too many":     {options: Options{Nodes: 1, Shapes: []Shape{{Count: 2, Resources: odd}}}, fails: "add up to 2"},
		"too few":      {options: Options{Nodes: 3, Shapes: []Shape{{Count: 2, Resources: odd}}}, fails: "give one shape without count"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := test.options.nodeShapes(1)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error is %v, want one with %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestValidateNamesTheFault(t *testing.T) {
	for want, options := range map[string]Options{
		`"scheduler" is not a part`: {Parts: []string{"scheduler"}},
		`given for "kwok"`:          {Config: map[string]map[string]any{"kwok": {}}},
		"-1 lower clusters":         {Lower: -1},
		"nodes is negative":         {Nodes: -1},
		"2 real nodes":              {Lower: 1, RealNodes: 2},
		`not "round"`:               {Lower: 1, Networks: "round"},
		"with networks 1 to 40":     {Networks: Flat},
	} {
		if err := options.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

// TestFragments pins what the fill promises: the total looks roomy, most holes are small, few are large.
func TestFragments(t *testing.T) {
	for _, n := range []int{1, 4, 20, 200} {
		options := Options{Lower: 2, Nodes: n, Seed: 7}
		first, again := options.fragmented(), options.fragmented()
		counts, same := map[int64]int{}, true
		for node := 1; node <= n; node++ {
			a, _ := first(1, node)
			b, _ := again(1, node)
			c, _ := first(2, node)
			if !a.Cpu().Equal(*b.Cpu()) {
				t.Fatalf("%d nodes: the same seed gave another hole on node %d", n, node)
			}
			same = same && a.Cpu().Equal(*c.Cpu())
			counts[a.Cpu().Value()]++
		}
		if n > 1 && same {
			t.Errorf("%d nodes: both clusters have the same holes", n)
		}
		if n >= 4 && (counts[8] < 1 || counts[8] > 2 || counts[4] < 1) {
			t.Errorf("%d nodes: holes %v", n, counts)
		}
		if small := counts[1] + counts[2]; n >= 20 && small*100 < n*80 {
			t.Errorf("%d nodes: only %d holes are small", n, small)
		}
	}
}

func TestFiller(t *testing.T) {
	capacity := list("cpu", "16", "memory", "64Gi", "pods", "110", "nvidia.com/gpu", "4")
	for name, test := range map[string]struct{ free, want corev1.ResourceList }{
		"memory in proportion": {list("cpu", "4"), list("cpu", "12", "memory", "48Gi")},
		"exact":                {list("cpu", "4", "memory", "1Gi", "nvidia.com/gpu", "1"), list("cpu", "12", "memory", "63Gi", "nvidia.com/gpu", "3")},
		"all":                  {list("cpu", "16", "memory", "64Gi"), list()},
		"more than all":        {list("cpu", "20"), list()},
		"none":                 {list("cpu", "0"), list("cpu", "16", "memory", "64Gi")},
	} {
		t.Run(name, func(t *testing.T) {
			got := filler(capacity, test.free)
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b resource.Quantity) bool { return a.Equal(b) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHolesFromFile(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "holes.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	holes, err := holesFromFile(write("- {node: lower-1-node-0002, cpu: 2, memory: 8Gi}\n- {cluster: lower-2, index: 1, cpu: 500m}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		cluster, node int
		cpu           string
	}{{1, 2, "2"}, {2, 1, "500m"}, {1, 1, "0"}} {
		if free, ok := holes(test.cluster, test.node); !ok || free.Cpu().String() != test.cpu {
			t.Errorf("hole of lower-%d node %d is %v, want %s CPU", test.cluster, test.node, free, test.cpu)
		}
	}
	for text, want := range map[string]string{
		"- {cpu: 1}":                           "item 1: it needs node",
		"- {node: n, cpu: many}":               `"many"`,
		"- {node: n, colour: 1}":               `"colour"`,
		"- {cluster: c, index: 0, cpu: \"1\"}": "item 1: it needs node",
		"hello":                                "reading the holes",
	} {
		if _, err := holesFromFile(write(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", text, err, want)
		}
	}
	if _, err := holesFromFile("/nowhere/holes"); err == nil || !strings.Contains(err.Error(), "neither empty, fragmented nor a file") {
		t.Errorf("error is %v", err)
	}
}

func TestMerge(t *testing.T) {
	base := map[string]any{"a": 1, "limits": map[string]any{"maxPerCycle": 10, "other": 1}}
	change := map[string]any{"b": 2, "limits": map[string]any{"maxPerCycle": 3}}
	want := map[string]any{"a": 1, "b": 2, "limits": map[string]any{"maxPerCycle": 3, "other": 1}}
	if diff := cmp.Diff(want, merge(base, change)); diff != "" {
		t.Error(diff)
	}
}

func TestPrepareDirRefusesStrangers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepareDir(dir); err == nil || !strings.Contains(err.Error(), `"thesis.tex"`) {
		t.Errorf("error is %v, want one that names the file", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "thesis.tex")); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	held, err := lock(file)
	if err != nil {
		t.Fatal(err)
	}
	locked, ok := errorAs(lock(file))
	if !ok || locked.pid != os.Getpid() {
		t.Errorf("a second lock gave %v, want this process's pid %d", locked, os.Getpid())
	}
	held.release()
	again, err := lock(file)
	if err != nil {
		t.Fatalf("locking after the release: %v", err)
	}
	again.release()
}

func errorAs(_ *fileLock, err error) (*lockedError, bool) {
	locked := (*lockedError)(nil)
	ok := errors.As(err, &locked)
	return locked, ok
}
