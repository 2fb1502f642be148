package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/internal/wire"
)

// NewWhatifCommand returns `tessera whatif`.
func NewWhatifCommand() *cobra.Command {
	var flags extenderFlags
	var file string
	replicas := 1
	command := &cobra.Command{
		Use:   "whatif -f POD.yaml",
		Short: "Say where a pod would go now, without creating it or holding room",
		Example: "  tessera whatif -f pod.yaml --replicas 20 --extender http://127.0.0.1:10259\n" +
			"  kubectl get pod web-0 -o yaml | tessera whatif -f -",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			body, err := readPod(command.InOrStdin(), file)
			if err != nil {
				return err
			}
			extender, err := flags.reach()
			if err != nil {
				return err
			}
			answer, err := extender.Whatif(command.Context(), body, replicas)
			if err != nil {
				return err
			}
			return printAnswer(&flags.daemonFlags, command.OutOrStdout(), answer, printWhatif)
		},
	}
	command.Flags().StringVarP(&file, "filename", "f", "", "file with a Pod, YAML or JSON; - for standard input (required)")
	command.Flags().IntVar(&replicas, "replicas", replicas, "how many such pods")
	flags.add(command)
	return command
}

// readPod reads a Pod strictly and returns it as JSON.
func readPod(in io.Reader, file string) ([]byte, error) {
	if file == "" {
		return nil, errors.New("--filename: no file given")
	}
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(in) }
	}
	data, err := read()
	if err != nil {
		return nil, fmt.Errorf("--filename: %w", err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(data, &pod); err != nil {
		return nil, fmt.Errorf("reading pod %s: %w", file, err)
	}
	if pod.Kind != "" && pod.Kind != "Pod" {
		return nil, fmt.Errorf("reading pod %s: its kind is %s; give a Pod, such as the template of the %s", file, pod.Kind, pod.Kind)
	}
	return json.Marshal(&pod)
}

func printWhatif(out io.Writer, w wire.Whatif) error {
	fmt.Fprintf(out, "%d of %d fit now.\n\n", w.Fitting, w.Replicas)
	table := newTable(out, "CLUSTER", "FITS", "HOW MANY", "TIGHTEST NODE", "WHY NOT", "SHORT OF")
	for _, c := range w.Clusters {
		table.row(c.Name, yes(c.Fits), c.Replicas, dash(c.Node), dash(string(c.Reason)), dash(amounts(c.Short)))
	}
	return table.flush()
}
