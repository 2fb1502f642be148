package streams

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func speeds(logs, in, out, both, echo float64) Speeds {
	return Speeds{logs * mebi, in * mebi, out * mebi, both * mebi, echo}
}

// Ratios are taken within rounds: one in which the machine was slow on all ways changes none.
func TestSummary(t *testing.T) {
	t.Parallel()
	fast := Round{Direct: speeds(100, 80, 40, 50, 1), Relay: speeds(50, 40, 20, 25, 2), Via: speeds(45, 38, 21, 24, 2.5)}
	slow := Round{Direct: speeds(10, 8, 4, 5, 10), Relay: speeds(5, 4, 2, 2.5, 20), Via: speeds(4.5, 3.8, 2.1, 2.4, 20.5)}
	for name, c := range map[string]struct {
		rounds []Round
		want   Result
	}{
		"no rounds": {},
		"rounds": {[]Round{fast, slow, fast}, Result{
			LogsToRelay: 0.9, CopyToRelay: 0.96, EchoExtraMs: 0.5, LogsToDirect: 0.45, CopyToDirect: 0.48, EchoBeyondDirectMs: 1.5,
			CopyInToRelay: 0.95, CopyOutToRelay: 1.05, Median: fast, Rounds: []Round{fast, slow, fast},
		}},
		"nothing to compare with": {[]Round{{Via: fast.Via}}, Result{
			EchoExtraMs: 2.5, EchoBeyondDirectMs: 2.5, Median: Round{Via: fast.Via}, Rounds: []Round{{Via: fast.Via}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near := cmp.Comparer(func(a, b float64) bool { return max(a-b, b-a) < 1e-9*max(1, a, b) })
			if diff := cmp.Diff(&c.want, summary(c.rounds), near); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result Result
		says   []string // how lines begin, and how they end
		wrong  string
	}{
		"all is well": {
			Result{LogsToRelay: 0.9, CopyToRelay: 1, EchoExtraMs: 2, Rounds: make([]Round, 3)},
			[]string{"logs, to a plain|0.90 (median of 3 rounds)|>= 0.9|OK", "cp in and out|>= 0.9|OK", "an echo, beyond a|<= 2 ms|OK",
				"streams that came|0|OK"}, "",
		},
		"short": {
			Result{LogsToRelay: 0.89, CopyToRelay: 0.5, EchoExtraMs: 2.1},
			[]string{"logs, to a plain|short", "cp in and out|short", "an echo, beyond a|short", "processor time|ms a MiB|"}, "",
		},
		"speeds": {
			Result{Median: Round{Direct: speeds(1, 2, 3, 0, 4), Relay: speeds(5, 6, 7, 0, 8), Via: speeds(9, 10, 11, 0, 12)}},
			[]string{"logs: direct|1.0 / 5.0 / 9.0 MiB/s|", "cp in:|2.0 / 6.0 / 10.0 MiB/s|", "cp out:|3.0 / 7.0 / 11.0 MiB/s|",
				"an echo: direct|4.00 / 8.00 / 12.00 ms|"}, "",
		},
		"lost": {Result{Wrong: []string{"logs: lost"}}, []string{"streams that came|1|short"}, "streams: logs: lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := c.result.Print(&out); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.says {
				if !said(out.String(), strings.Split(want, "|")) {
					t.Errorf("it does not say %s:\n%s", want, out.String())
				}
			}
			wrong := ""
			if err := c.result.Check(); err != nil {
				wrong = err.Error()
			}
			if wrong != c.wrong {
				t.Errorf("wrong is %q, want %q", wrong, c.wrong)
			}
		})
	}
}

// said reports whether a line begins with the first part, ends with the last one, and has all of them.
func said(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		all := strings.HasPrefix(line, parts[0]) && strings.HasSuffix(line, parts[len(parts)-1])
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

func TestTurned(t *testing.T) {
	t.Parallel()
	var got []string
	for i := range 4 {
		got = append(got, strings.Join(turned([]string{"a", "b", "c"}, i), ""))
	}
	if diff := cmp.Diff([]string{"abc", "bca", "cab", "abc"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsLacking(t *testing.T) {
	t.Parallel()
	want := printed(3, 4)
	for came, lacks := range map[string]string{
		"001\n002\n003\n":      "",
		"001\n002\n":           "8 of 12 bytes came",
		"001\n002\n003\n004\n": "16 of 12 bytes came",
		"001\n003\n002\n":      "12 bytes came, and not as they were",
		"":                     "0 of 12 bytes came",
	} {
		got, err := read(strings.NewReader(came))
		if err != nil {
			t.Fatal(err)
		}
		if got := want.lacks(got); got != lacks {
			t.Errorf("of %q: %q, want %q", came, got, lacks)
		}
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	data := random(100_000)
	archive, err := pack(data)
	if err != nil {
		t.Fatal(err)
	}
	want, err := read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		archive []byte
		lacks   string
	}{
		"whole":   {archive, ""},
		"cut off": {archive[:50_512], "50000 of 100000 bytes came"},
		"nothing": {nil, "0 of 100000 bytes came"},
	} {
		if got := want.lacks(unpacked(c.archive)); got != c.lacks {
			t.Errorf("%s: %q, want %q", name, got, c.lacks)
		}
	}
}

func TestRelayAsksForItsPod(t *testing.T) {
	t.Parallel()
	r := &relay{namespace: "ns", pod: "below"}
	for asked, want := range map[string]string{
		"/containerLogs/a/b/log?stream=All":                      "https://lower/api/v1/namespaces/ns/pods/below/log?container=log&stream=All",
		"/exec/a/b/main?command=x&command=y&error=1&output=1":    "https://lower/api/v1/namespaces/ns/pods/below/exec?command=x&command=y&container=main&stderr=true&stdout=true",
		"/exec/a/b/main?command=x&input=1&output=1&error=0&tty=": "https://lower/api/v1/namespaces/ns/pods/below/exec?command=x&container=main&stdin=true&stdout=true&tty=",
	} {
		in, err := url.Parse(asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.lower(&url.URL{Scheme: "https", Host: "lower"}, in).String(); got != want {
			t.Errorf("%s: %s, want %s", asked, got, want)
		}
	}
}
