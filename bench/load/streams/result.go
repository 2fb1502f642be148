package streams

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// The bars of the figures. Missing one is no failure: figures are not a test.
const (
	barToRelay = 0.9 // of the plain relay's bytes a second
	barExtraMs = 2   // for an echo, beyond the plain relay's
)

// mebi are the bytes of a MiB.
const mebi = 1 << 20

// Speeds are those of one way.
type Speeds struct {
	LogsBytesPerSecond float64 `json:"logsBytesPerSecond"`
	// CopyInBytesPerSecond and CopyOutBytesPerSecond are those of tar by exec, as kubectl cp does; CopyBytesPerSecond is both one
	// after the other.
	CopyInBytesPerSecond  float64 `json:"cpInBytesPerSecond"`
	CopyOutBytesPerSecond float64 `json:"cpOutBytesPerSecond"`
	CopyBytesPerSecond    float64 `json:"cpBytesPerSecond"`
	// EchoMs is the median of 200 lines there and back, in each pass.
	EchoMs float64 `json:"echoMs"`
}

// Round is what the ways came to in one round, as medians of its passes.
type Round struct {
	Direct Speeds `json:"direct"` // straight to the lower API server
	Relay  Speeds `json:"relay"`  // by the upper one and a plain relay
	Via    Speeds `json:"via"`    // by the upper one and virtualnode
}

// of is a way's part.
func (r *Round) of(way string) *Speeds {
	switch way {
	case wayDirect:
		return &r.Direct
	case wayRelay:
		return &r.Relay
	}
	return &r.Via
}

// each shows a figure of all ways.
func (r *Round) each(format string, figure func(Speeds) float64) string {
	all := make([]string, 0, 3)
	for _, s := range []Speeds{r.Direct, r.Relay, r.Via} {
		all = append(all, fmt.Sprintf(format, figure(s)))
	}
	return strings.Join(all, " / ")
}

// Result is what all rounds came to. Ratios and differences are medians of those within rounds.
type Result struct {
	LogsToRelay  float64 `json:"logsToRelay"` // bytes a second through virtualnode to those through the relay
	CopyToRelay  float64 `json:"cpToRelay"`
	EchoExtraMs  float64 `json:"echoExtraMs"` // how much longer an echo takes through virtualnode than through the relay
	LogsToDirect float64 `json:"logsToDirect"`
	CopyToDirect float64 `json:"cpToDirect"`
	// EchoBeyondDirectMs is how much longer an echo takes through virtualnode than straight.
	EchoBeyondDirectMs float64 `json:"echoBeyondDirectMs"`
	CopyInToRelay      float64 `json:"cpInToRelay"`
	CopyOutToRelay     float64 `json:"cpOutToRelay"`
	// Median has each speed's median by itself.
	Median Round `json:"median"`
	// RelayMsPerMiB and VirtualNodeMsPerMiB are processor time of those processes for what went through them, all streams together.
	RelayMsPerMiB       float64  `json:"relayMsPerMiB"`
	VirtualNodeMsPerMiB float64  `json:"virtualnodeMsPerMiB"`
	Rounds              []Round  `json:"rounds"`
	Wrong               []string `json:"wrong,omitempty"` // what came incomplete or changed
}

// summary sums up rounds.
func summary(rounds []Round) *Result {
	median := func(figure func(Round) float64) float64 {
		var all []float64
		for _, r := range rounds {
			all = append(all, figure(r))
		}
		return latency.Median(all)
	}
	logs := func(s Speeds) float64 { return s.LogsBytesPerSecond }
	both := func(s Speeds) float64 { return s.CopyBytesPerSecond }
	in := func(s Speeds) float64 { return s.CopyInBytesPerSecond }
	out := func(s Speeds) float64 { return s.CopyOutBytesPerSecond }
	echo := func(s Speeds) float64 { return s.EchoMs }
	toRelay := func(speed func(Speeds) float64) float64 {
		return median(func(r Round) float64 { return ratio(speed(r.Via), speed(r.Relay)) })
	}
	toDirect := func(speed func(Speeds) float64) float64 {
		return median(func(r Round) float64 { return ratio(speed(r.Via), speed(r.Direct)) })
	}
	result := &Result{
		LogsToRelay: toRelay(logs), CopyToRelay: toRelay(both), CopyInToRelay: toRelay(in), CopyOutToRelay: toRelay(out),
		LogsToDirect: toDirect(logs), CopyToDirect: toDirect(both),
		EchoExtraMs:        median(func(r Round) float64 { return echo(r.Via) - echo(r.Relay) }),
		EchoBeyondDirectMs: median(func(r Round) float64 { return echo(r.Via) - echo(r.Direct) }),
		Rounds:             rounds,
	}
	for _, way := range []string{wayDirect, wayRelay, wayVia} {
		each := func(figure func(Speeds) float64) float64 {
			return median(func(r Round) float64 { return figure(*r.of(way)) })
		}
		*result.Median.of(way) = Speeds{
			LogsBytesPerSecond: each(logs), CopyInBytesPerSecond: each(in), CopyOutBytesPerSecond: each(out), CopyBytesPerSecond: each(both),
			EchoMs: each(echo),
		}
	}
	return result
}

// ratio is 0 where there is nothing to compare with.
func ratio(of, to float64) float64 {
	if to == 0 {
		return 0
	}
	return of / to
}

// Check is an error if what came is not what was sent. That a figure falls short of its bar is none.
func (r *Result) Check() error {
	if len(r.Wrong) > 0 {
		return errors.New("streams: " + strings.Join(r.Wrong, "; "))
	}
	return nil
}

// Print writes the figures as a table.
func (r *Result) Print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value, bar string, ok bool) {
		verdict := ""
		if bar != "" {
			verdict = map[bool]string{true: "OK", false: "short"}[ok]
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, value, bar, verdict)
	}
	speeds := func(of func(Speeds) float64) string {
		return r.Median.each("%.1f", func(s Speeds) float64 { return of(s) / mebi }) + " MiB/s"
	}
	atLeast := fmt.Sprintf(">= %.1f", barToRelay)
	fmt.Fprintln(table, "\nSTREAMS THROUGH VIRTUALNODE\tFIGURE\tBAR\t")
	row("logs, to a plain relay", fmt.Sprintf("%.2f (median of %d rounds)", r.LogsToRelay, len(r.Rounds)),
		atLeast, r.LogsToRelay >= barToRelay)
	row("cp in and out, to a plain relay", fmt.Sprintf("%.2f (in %.2f, out %.2f)", r.CopyToRelay, r.CopyInToRelay, r.CopyOutToRelay),
		atLeast, r.CopyToRelay >= barToRelay)
	row("an echo, beyond a plain relay", fmt.Sprintf("%.2f ms", r.EchoExtraMs),
		fmt.Sprintf("<= %d ms", barExtraMs), r.EchoExtraMs <= barExtraMs)
	row("logs / cp, to the lower API server asked directly", fmt.Sprintf("%.2f / %.2f", r.LogsToDirect, r.CopyToDirect), "", true)
	row("an echo, beyond that", fmt.Sprintf("%.2f ms", r.EchoBeyondDirectMs), "", true)
	row("logs: direct / relay / virtualnode", speeds(func(s Speeds) float64 { return s.LogsBytesPerSecond }), "", true)
	row("cp in: direct / relay / virtualnode", speeds(func(s Speeds) float64 { return s.CopyInBytesPerSecond }), "", true)
	row("cp out: direct / relay / virtualnode", speeds(func(s Speeds) float64 { return s.CopyOutBytesPerSecond }), "", true)
	row("an echo: direct / relay / virtualnode", r.Median.each("%.2f", func(s Speeds) float64 { return s.EchoMs })+" ms", "", true)
	row("processor time: relay / virtualnode", fmt.Sprintf("%.1f / %.1f ms a MiB", r.RelayMsPerMiB, r.VirtualNodeMsPerMiB), "", true)
	row("streams that came incomplete or changed", fmt.Sprint(len(r.Wrong)), "0", len(r.Wrong) == 0)
	return table.Flush()
}
