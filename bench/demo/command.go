package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// Report is both runs of the story, as --json writes it.
type Report struct {
	Stock   Result `json:"stock"`
	Tessera Result `json:"tessera"`
}

// NewCommand returns `bench demo`.
func NewCommand() *cobra.Command {
	var seed int64 = 1
	var file, readme string
	command := &cobra.Command{
		Use:   "demo",
		Short: "Show what Tessera is for: one workload on fragmented clusters, without and with it",
		Long: "Starts real control planes (etcd, kube-apiserver, kube-scheduler, kube-controller-manager; KWOK plays the nodes), runs the\n" +
			"same workload first with the stock scheduler and virtual nodes, then with Tessera, and prints what became of it.\n" +
			"Ends by itself; exits non-zero if Tessera left a pod hanging that would fit.",
		Example: "  go run ./bench demo\n  go run ./bench demo --seed 7 --json result.json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return tell(ctx, command.OutOrStdout(), seed, file, readme)
		},
	}
	command.Flags().Int64Var(&seed, "seed", seed, "order of the holes and of the workload")
	command.Flags().StringVar(&file, "json", "", "also write the figures to this file")
	command.Flags().StringVar(&readme, "readme", "", "also put what is printed at the end between the demo marks of this file")
	return command
}

// tell plays both runs and prints the story.
func tell(ctx context.Context, out io.Writer, seed int64, file, readme string) error {
	var report Report
	var wronged []string
	var err error
	if report.Stock, wronged, err = playStock(ctx, out, seed); err != nil {
		return err
	}
	var explanation string
	if report.Tessera, explanation, err = playTessera(ctx, out, seed, wronged, nil); err != nil {
		return err
	}
	var end strings.Builder
	if err := printReport(&end, report); err != nil {
		return err
	}
	fmt.Fprintf(&end, "\n%s", explanation)
	fmt.Fprintf(out, "\n%s\n", end.String())
	if file != "" {
		if err := writeJSON(file, report); err != nil {
			return err
		}
	}
	if readme != "" {
		if err := writeReadme(readme, end.String()); err != nil {
			return err
		}
	}
	return report.verdict()
}

// The marks between which a README shows the end of the story.
const (
	beginMark = "<!-- demo:begin -->\n"
	endMark   = "<!-- demo:end -->"
)

// writeReadme replaces what stands between the marks of a file.
func writeReadme(file, text string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("writing into the README: %w", err)
	}
	before, rest, begins := strings.Cut(string(data), beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return fmt.Errorf("writing into the README: %s has no marks %s%s", file, beginMark, endMark)
	}
	text = before + beginMark + "```\n" + strings.TrimSpace(text) + "\n```\n" + endMark + after
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing into the README: %w", err)
	}
	return nil
}

// verdict is an error if Tessera left a pod hanging that would fit.
func (r Report) verdict() error {
	if r.Tessera.StuckBelow > 0 || r.Tessera.RefusedWithRoom > 0 {
		return fmt.Errorf("with Tessera %d pods hang below and %d were refused with room", r.Tessera.StuckBelow, r.Tessera.RefusedWithRoom)
	}
	if r.Tessera.Running < r.Tessera.Asked { // The holes of the stage fit the whole workload.
		return fmt.Errorf("with Tessera %d of %d pods do not run, though the holes fit all of them",
			r.Tessera.Asked-r.Tessera.Running, r.Tessera.Asked)
	}
	return nil
}

// playStock runs the workload with the stock scheduler; wronged names the pods that it sent where no node fits.
func playStock(ctx context.Context, out io.Writer, seed int64) (result Result, wronged []string, err error) {
	r, err := start(ctx, "stock", []string{lab.PartVirtualNode, lab.PartAdmission}, seed, out)
	if err != nil {
		return result, nil, err
	}
	defer r.lab.Stop()
	result, last, err := r.play(ctx)
	if err != nil {
		return result, nil, err
	}
	return result, last.stuck, nil
}

// playTessera runs the workload with Tessera and asks it about one of the pods that the stock run got wrong. observe,
// if not nil, sees every sample.
func playTessera(
	ctx context.Context, out io.Writer, seed int64, wronged []string, observe observer,
) (result Result, explanation string, err error) {
	r, err := start(ctx, "tessera", []string{lab.PartExtender, lab.PartVirtualNode, lab.PartAdmission, lab.PartRebalance}, seed, out)
	if err != nil {
		return result, "", err
	}
	defer r.lab.Stop()
	r.observe = observe
	if result, _, err = r.play(ctx); err != nil || len(wronged) == 0 {
		return result, "The stock scheduler got no pod wrong, so there is none to explain.", err
	}
	explanation, err = r.explain(ctx, wronged)
	return result, explanation, err
}

// explain asks about the pods that the stock run got wrong and returns the answer about one: the first that some
// cluster was too fragmented for, or else the first.
func (r *run) explain(ctx context.Context, wronged []string) (string, error) {
	var first string
	for _, name := range wronged {
		pod := namespace + "/" + name
		text, err := exec.CommandContext(ctx, r.lab.Tessera(), "explain", "pod", pod, "--extender", r.lab.ExtenderURL()).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("running tessera explain: %w: %s", err, text)
		}
		answer := fmt.Sprintf("The stock scheduler sent %s where no node can take it. Asked why it did otherwise, Tessera says:\n\n"+
			"$ tessera explain pod %s\n%s", name, pod, text)
		if strings.Contains(answer, string(keys.Fragmented)) {
			return answer, nil
		}
		if first == "" {
			first = answer
		}
	}
	return first, nil
}

func printReport(out io.Writer, r Report) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	row := func(name string, value func(Result) any) {
		fmt.Fprintf(table, "%s\t%v\t%v\n", name, value(r.Stock), value(r.Tessera))
	}
	fmt.Fprintf(table, "THE SAME WORKLOAD\tSTOCK SCHEDULER\tWITH TESSERA\n")
	row("pods asked for", func(r Result) any { return r.Asked })
	row("running", func(r Result) any { return r.Running })
	row("stuck in a cluster where no node fits", func(r Result) any { return r.StuckBelow })
	row("refused although a node fits", func(r Result) any { return r.RefusedWithRoom })
	row("CPUs used by the workload", func(r Result) any { return r.CPUUsed })
	row("CPUs left free", func(r Result) any { return r.CPUFree })
	row("seconds until all ran", func(r Result) any {
		if r.SecondsToAllRunning == nil {
			return "never"
		}
		return *r.SecondsToAllRunning
	})
	return table.Flush()
}

func writeJSON(file string, report Report) error {
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing figures: %w", err)
	}
	return nil
}
