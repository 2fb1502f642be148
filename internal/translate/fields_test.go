package translate

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

var rewrite = flag.Bool("rewrite", false, "add fields that testdata/fields.txt does not know to it, as undecided")

const fieldsFile = "testdata/fields.txt"

// everyPower is a target that changes what rules can change and lets everything through.
var everyPower = Target{VirtualNode: "v", Identity: "us", Rules: Rules{
	NamespacePrefix: "t-", SchedulerName: "batch", Nodes: "pool=shared", Allow: Powers(),
	Priority: PriorityMap, PriorityClasses: map[string]string{"x": "low"},
}}

// TestEveryField walks every field of a pod's metadata and spec, however deep, gives it a value in a pod that has nothing
// else, and compares what LowerPod makes of it with what testdata/fields.txt says.
func TestEveryField(t *testing.T) {
	t.Parallel()
	decided := readDecisions(t)
	var undecided []string
	var dropped, refused podField
	for _, f := range podFields() {
		if f.within(dropped) {
			continue
		}
		f.powerful = f.within(refused)
		d, ok := decided[f.key]
		switch {
		case ok:
			d.used = true
			checkField(t, f, d)
			if d.what == "dropped" {
				dropped = f
			}
			if strings.HasPrefix(d.what, "refused") {
				refused = f
			}
		case f.leaf && !slices.Contains(undecided, f.key):
			undecided = append(undecided, f.key)
			t.Errorf("%s: no line for %s", f.path, f.key)
		}
	}
	if undecided != nil {
		t.Logf("Fields without a line in %s are new in this version of Kubernetes, or their type came to a new place. For each, decide "+
			"whether it means the same in a lower cluster, make LowerPod do so, and add a line such as\n\t%s | kept\n"+
			"`go test ./internal/translate -run TestEveryField -rewrite` adds lines that say undecided and fail.", fieldsFile, undecided[0])
	}
	for key, d := range decided {
		if !d.used {
			t.Errorf("%s:%d: %s: pods have no such field, or it lies in one that is dropped whole: take the line out", fieldsFile, d.line, key)
		}
	}
	if *rewrite {
		addUndecided(t, undecided)
	}
}

// decision is one line of the file.
type decision struct {
	line      int
	what, why string
	used      bool
}

func readDecisions(t *testing.T) map[string]*decision {
	t.Helper()
	text, err := os.ReadFile(fieldsFile)
	if err != nil {
		t.Fatal(err)
	}
	decided := map[string]*decision{}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := append(strings.SplitN(line, "|", 3), "", "")
		key, d := strings.TrimSpace(columns[0]), &decision{line: i + 1, what: strings.TrimSpace(columns[1]), why: strings.TrimSpace(columns[2])}
		if decided[key] != nil {
			t.Errorf("%s:%d: %s has a second line", fieldsFile, d.line, key)
		}
		if d.what != "kept" && d.what != "undecided" && d.why == "" {
			t.Errorf("%s:%d: %s is %s: say why, in a third column", fieldsFile, d.line, key, d.what)
		}
		decided[key] = d
	}
	return decided
}

// addUndecided puts lines after the last one of their type. It decides nothing.
func addUndecided(t *testing.T, keys []string) {
	t.Helper()
	text, err := os.ReadFile(fieldsFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for _, key := range keys {
		kind, _, _ := strings.Cut(key, ".")
		at := len(lines)
		for i := range lines {
			if strings.HasPrefix(lines[i], kind+".") {
				at = i + 1
			}
		}
		lines = slices.Insert(lines, at, key+" | undecided")
	}
	if err := os.WriteFile(fieldsFile, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkField compares a decision with what LowerPod does.
func checkField(t *testing.T, f podField, d *decision) {
	t.Helper()
	at := fmt.Sprintf("%s:%d: %s is %q there", fieldsFile, d.line, f.path, d.what)
	power, refused := strings.CutPrefix(d.what, "refused unless ")
	expected, becomes := strings.CutPrefix(d.what, "becomes ")
	switch {
	case refused:
		checkRefused(t, f, Power(power), at)
		f.powerful = true
		if f.leaf {
			checkKept(t, f, at)
		}
	case becomes:
		if got := encode(t, f.below(t)); got != expected {
			t.Errorf("%s; below it is %s", at, got)
		}
	case d.what == "dropped":
		if got := f.below(t); got != nil {
			t.Errorf("%s; below it is %s", at, encode(t, got))
		}
	case d.what == "kept" && f.leaf:
		checkKept(t, f, at)
	case d.what == "kept":
		t.Errorf("%s: it has fields of its own, which have their lines: take this one out", at)
	case d.what == "undecided":
		t.Errorf("%s: decide whether it means the same in a lower cluster and write kept, dropped, becomes VALUE or refused unless POWER", at)
	default:
		t.Errorf("%s: that is none of kept, dropped, becomes VALUE, refused unless POWER", at)
	}
}

func checkKept(t *testing.T, f podField, at string) {
	t.Helper()
	if _, err := LowerPod(f.pod(t), Target{}); err != nil && !f.powerful {
		t.Errorf("%s; without any power LowerPod says: %v", at, err)
	}
	got, given := f.below(t), f.in(f.pod(t)).Interface()
	if entries := reflect.ValueOf(given); entries.Kind() == reflect.Map && reflect.TypeOf(got) == entries.Type() {
		key := entries.MapKeys()[0] // LowerPod may add others.
		got, given = reflect.ValueOf(got).MapIndex(key).Interface(), entries.MapIndex(key).Interface()
	}
	if !equality.Semantic.DeepEqual(got, given) {
		t.Errorf("%s; of %s LowerPod made %s", at, encode(t, given), encode(t, got))
	}
}

func checkRefused(t *testing.T, f podField, power Power, at string) {
	t.Helper()
	target := everyPower
	target.Rules.Allow = slices.DeleteFunc(slices.Clone(target.Rules.Allow), func(p Power) bool { return p == power })
	_, err := LowerPod(f.pod(t), target)
	if refusal := (*NotAllowed)(nil); !errors.As(err, &refusal) || refusal.Power != power {
		t.Errorf("%s; without that power LowerPod says: %v", at, err)
	}
}

// pod is one in which nothing but this field is set.
func (f podField) pod(t *testing.T) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	value := f.in(pod)
	fill(value, f.key)
	if value.IsZero() {
		t.Fatalf("%s: the test has no value for it", f.path)
	}
	return pod
}

// below is what the field is in the lower pod; nil if nothing is left of it.
func (f podField) below(t *testing.T) any {
	t.Helper()
	lower, err := LowerPod(f.pod(t), everyPower)
	if err != nil {
		t.Fatalf("%s: %v", f.path, err)
	}
	value := reflect.ValueOf(lower).Elem()
	for _, step := range f.steps {
		switch {
		case step == dereference && value.IsNil(), step == element && value.Len() == 0:
			return nil
		case step == dereference:
			value = value.Elem()
		case step == element:
			value = value.Index(0)
		default:
			value = value.Field(step)
		}
	}
	if value.IsZero() || (value.Kind() == reflect.Map || value.Kind() == reflect.Slice) && value.Len() == 0 {
		return nil
	}
	return value.Interface()
}
