package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/admission"
	"github.com/tessera-k8s/tessera/bench/load/decisions"
	"github.com/tessera-k8s/tessera/bench/load/lifecycles"
	"github.com/tessera-k8s/tessera/bench/load/many"
	"github.com/tessera-k8s/tessera/bench/load/streams"
	"github.com/tessera-k8s/tessera/bench/load/through"
)

// Report is what --json writes.
type Report struct {
	Seed        uint64             `json:"seed"`
	Hints       []HintResult       `json:"hints,omitempty"`
	VirtualNode *through.Result    `json:"virtualnode,omitempty"`
	Memory      []through.Memory   `json:"memory,omitempty"`
	Rest        []through.Rest     `json:"rest,omitempty"`
	Objects     *through.Objects   `json:"objects,omitempty"`
	Streams     *streams.Result    `json:"streams,omitempty"`
	Lifecycles  *lifecycles.Report `json:"lifecycles,omitempty"`
	StandIn     *many.Result       `json:"standin,omitempty"`
	Admission   *admission.Result  `json:"admission,omitempty"`
	// Latency is by size, such as c100n1k.
	Latency map[string]*decisions.Result `json:"latency,omitempty"`
}

// load is one thing that --only chooses.
type load struct {
	name, help string
	// pods and rounds hold where the flags are 0; 0 rounds: there are none.
	pods, rounds int
	play         func(context.Context, io.Writer, options, *Report, through.Progress) error
}

var loads = []load{
	{name: "hints", pods: 300, rounds: 2, play: playHints, help: `
a burst of pods for which there are exactly the holes, with each way to tell the lower scheduler where room
is held: how many pods run, how many it lacked room for, pods a second`},
	{name: "virtualnode", pods: 1500, rounds: 3, play: playVirtualNode, help: `
pods bound to a virtual node: how late virtualnode is under a steady load; pods a second at saturation beside
a program that makes only the writes any virtual node must make, and beside pods created directly below;
processor time of each process and writes a pod`},
	{name: "memory", pods: 100, play: playMemory, help: `
resident memory of one virtualnode process with 1, 4 and 10 virtual nodes, which are as many names of one
lower cluster, so that each of them watches the pods of all`},
	{name: "rest", pods: 10000, play: playRest, help: `
what one virtualnode process takes while nothing happens, with so many pods on one virtual node and on twenty,
whose lower clusters the stand-in plays: processor time, what of it is the resync, bytes a pod`},
	{name: "objects", rounds: 3, play: playObjects, help: `
what pods bring along: how late a changed ConfigMap or Secret is below, how much later a pod is with three of
them, what many that nobody names cost; how late an endpoint of a Service is known in another flat cluster`},
	{name: "streams", rounds: 5, play: playStreams, help: `
kubectl logs, cp and exec of a pod on a real node (Linux and root, else it is skipped) through the kubelet API
of its virtual node, beside a plain relay between the two API servers and the lower one asked directly: bytes a
second, how much longer an echo takes`},
	{name: "lifecycles", pods: 500, play: playLifecycles, help: `
pods live in all sorts of ways while virtualnode and the API servers of both sides are killed (SIGKILL) at
seeded moments: pods lost, doubled and orphaned, Secrets, Services and policies that came along with them stale
or left over, objects of others changed`},
	{name: "standin", pods: 1000, play: playStandIn, help: `
the extender against lower clusters that the stand-in plays (bench/standin): how long until it has listed them
all, events a second under churn, processor time and memory of both`},
	{name: "admission", rounds: 5, play: playAdmission, help: `
500 reviews a second of a pod with constraints to seal, beside an echo that is asked at the same rate: processor
time a review, how much later than the echo's the answers are`},
	{name: "latency", pods: 10000, rounds: 9, play: playLatency, help: `
the extender's answers beside an echo's, where the stand-in plays 100 clusters of 1,000 nodes and 10 of 10,000
(or what --clusters and --nodes say): quiet, and with --churn events below and 2,000 pods that wait; processor
time of an answer; how soon a write below shows; memory`},
}

// describe lists the loads for --help.
func describe() string {
	var text strings.Builder
	for _, l := range loads {
		for i, line := range strings.Split(strings.TrimSpace(l.help), "\n") {
			name := ""
			if i == 0 {
				name = l.name
			}
			fmt.Fprintf(&text, "  %-13s%s\n", name, line)
		}
	}
	return text.String()
}

func loadNames() (names []string) {
	for _, l := range loads {
		names = append(names, l.name)
	}
	return names
}

// defaults says for --help what holds where a flag is 0.
func defaults(of func(load) int) string {
	var each []string
	for _, l := range loads {
		if of(l) > 0 {
			each = append(each, fmt.Sprintf("%s %d", l.name, of(l)))
		}
	}
	return strings.Join(each, ", ")
}

func playHints(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) error {
	burst := Burst{Clusters: o.clusters, Pods: o.pods, Seed: o.seed}
	options := burst.Lab()
	options.Log = out
	l, err := lab.Start(ctx, options)
	if err != nil {
		return err
	}
	defer l.Stop()
	if report.Hints, err = Hints(ctx, l, burst, o.rounds, progress); err != nil {
		return err
	}
	return printHints(out, report.Hints)
}

func printHints(out io.Writer, results []HintResult) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nhint\tpods\trun\tover-promised\tpods/s\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%.0f\t\n", r.Mode, r.Pods, r.Running, r.OverPromised, r.PodsPerSecond)
	}
	return table.Flush()
}

func playVirtualNode(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	options := through.Options{Rate: o.rate, Seconds: o.seconds, Pods: o.pods, Rounds: o.rounds, Profiles: o.profiles}
	if report.VirtualNode, err = through.Measure(ctx, out, options, progress); err != nil {
		return err
	}
	return report.VirtualNode.Print(out)
}

func playMemory(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	if report.Memory, err = through.MeasureMemory(ctx, out, []int{1, 4, 10}, o.pods, progress); err != nil {
		return err
	}
	return through.PrintMemory(out, report.Memory)
}

func playRest(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	if report.Rest, err = through.MeasureRest(ctx, out, o.pods, progress); err != nil {
		return err
	}
	return through.PrintRest(out, report.Rest)
}

func playObjects(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	if report.Objects, err = through.MeasureObjects(ctx, out, o.seconds, o.rounds, progress); err != nil {
		return err
	}
	return report.Objects.Print(out)
}

func playStreams(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	if why := lab.NoRealNode(ctx); why != "" {
		fmt.Fprintf(out, "SKIP streams: %s\n", why)
		return nil
	}
	if report.Streams, err = streams.Measure(ctx, out, o.rounds, streams.Progress(progress)); err != nil {
		return err
	}
	return report.Streams.Print(out)
}

func playLifecycles(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) error {
	l, err := lab.Start(ctx, lifecycles.Lab(out))
	if err != nil {
		return err
	}
	defer l.Stop()
	options := lifecycles.Options{Lifecycles: o.pods, Rate: lifecycles.DefaultRate, Seed: o.seed}
	if report.Lifecycles, err = lifecycles.Play(ctx, l, options, progress); err != nil {
		return err
	}
	return report.Lifecycles.Print(out)
}

func playStandIn(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	options := many.Options{Clusters: o.clusters, Nodes: o.nodes, Pods: o.pods, Seed: o.seed, Churn: o.churn, Seconds: o.seconds}
	if report.StandIn, err = many.Measure(ctx, out, options, many.Progress(progress)); err != nil {
		return err
	}
	return report.StandIn.Print(out)
}

func playAdmission(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) (err error) {
	if report.Admission, err = admission.Measure(ctx, out, o.seconds, o.rounds, admission.Progress(progress)); err != nil {
		return err
	}
	return report.Admission.Print(out)
}

func playLatency(ctx context.Context, out io.Writer, o options, report *Report, progress through.Progress) error {
	sizes := map[string]decisions.Size{}
	if o.given("clusters") || o.given("nodes") {
		sizes[fmt.Sprintf("c%dn%d", o.clusters, o.nodes)] = decisions.Size{Clusters: o.clusters, Nodes: o.nodes, Pods: o.pods}
	} else {
		sizes["c100n1k"] = decisions.Size{Clusters: 100, Nodes: 1000, Pods: o.pods}
		sizes["c10n10k"] = decisions.Size{Clusters: 10, Nodes: 10_000, Pods: 10 * o.pods}
	}
	churn := 2000.0
	if o.given("churn") {
		churn = o.churn
	}
	report.Latency = map[string]*decisions.Result{}
	var results []*decisions.Result
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		options := decisions.Options{Size: sizes[name], Rounds: o.rounds, Churn: churn, Waiting: 2000, Profiles: o.profiles}
		result, err := decisions.Measure(ctx, out, options, decisions.Progress(progress))
		if err != nil {
			return err
		}
		report.Latency[name] = result
		results = append(results, result)
	}
	return decisions.Print(out, results)
}

// Check returns what is not as it has to be: with the default hint every pod runs and no lower scheduler lacked room; no
// pod is lost on its way through virtualnode, and no byte; the extender has what its clusters have.
func (r *Report) Check() error {
	var wrong []error
	for _, h := range r.Hints {
		if h.Mode == HintModes[0] && (h.Running < h.Pods || h.OverPromised > 0 || h.Holds > 0) {
			wrong = append(wrong,
				fmt.Errorf("hint %s: %d of %d pods run, %d over-promised, %d holds left", h.Mode, h.Running, h.Pods, h.OverPromised, h.Holds))
		}
	}
	if r.VirtualNode != nil {
		wrong = append(wrong, r.VirtualNode.Check())
	}
	if r.Streams != nil {
		wrong = append(wrong, r.Streams.Check())
	}
	if r.Lifecycles != nil {
		wrong = append(wrong, r.Lifecycles.Check())
	}
	if r.Admission != nil {
		wrong = append(wrong, r.Admission.Check())
	}
	if r.StandIn != nil {
		wrong = append(wrong, r.StandIn.Check())
	}
	return errors.Join(wrong...)
}
