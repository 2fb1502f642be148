package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// ProcessStatus is one process as status prints it.
type ProcessStatus struct {
	Name          string `json:"name"`
	PID           int    `json:"pid"`
	State         string `json:"state"` // running, stopped (by SIGSTOP) or ended
	Exit          string `json:"exit,omitempty"`
	ResidentBytes int64  `json:"residentBytes"` // as ps shows it
	ShareBytes    int64  `json:"shareBytes"`    // the same, a page that N processes share counted as 1/N
}

// Status tells the state of every process of this lab.
func (l *Lab) Status() []ProcessStatus {
	rec, err := readRecord(l.dir)
	if err != nil {
		return nil // nothing was started yet
	}
	return rec.status()
}

// status looks the recorded processes up in the system, so it is right even if the lab was killed.
func (r *record) status() []ProcessStatus {
	var out []ProcessStatus
	for _, e := range r.Processes {
		s := ProcessStatus{Name: e.Name, PID: e.PID, State: stateEnded, Exit: e.Exit}
		if e.alive() {
			s.State, s.ResidentBytes, s.ShareBytes = runState(e.PID), residentBytes(e.PID), shareBytes(e.PID)
		}
		out = append(out, s)
	}
	return out
}

// clusterOf is the cluster that a process belongs to: what stands before the slash, or "parts".
func clusterOf(name string) string {
	if cluster, _, ok := strings.Cut(name, "/"); ok {
		return cluster
	}
	return "parts"
}

// memoryMiB sums up the resident memory of a cluster's processes, shared pages counted once.
func (l *Lab) memoryMiB(cluster string) int64 {
	var sum int64
	for _, s := range l.Status() {
		if clusterOf(s.Name) == cluster {
			sum += s.ShareBytes
		}
	}
	return sum >> 20
}

func newStatusCommand(dir *string) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "status",
		Short: "Print each process of the lab in --dir with its state and resident memory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printStatus(*dir, output, cmd.OutOrStdout())
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return command
}

// report is what status -o json prints.
type report struct {
	Dir       string          `json:"dir"`
	PID       int             `json:"pid"`   // of the lab process
	State     string          `json:"state"` // starting, ready or ended
	Clusters  []total         `json:"clusters"`
	Processes []ProcessStatus `json:"processes"`
	Networks  *networksStatus `json:"networks,omitempty"`
}

// total is the memory of one cluster, or of the parts together.
type total struct {
	Name          string `json:"name"`
	ResidentBytes int64  `json:"residentBytes"`
	ShareBytes    int64  `json:"shareBytes"`
}

func newReport(dir string) (*report, error) {
	rec, err := readRecord(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no lab in %s; start one with: go run ./bench lab up --dir %s", dir, dir)
	}
	if err != nil {
		return nil, err
	}
	r := &report{Dir: dir, PID: rec.Supervisor.PID, State: stateEnded}
	if rec.Supervisor.alive() {
		r.State = "starting"
		if _, err := os.Stat(filepath.Join(dir, readyFile)); err == nil {
			r.State = "ready"
		}
	} else if rec, err = readRecord(dir); err != nil { // its last words may be newer than what was read above
		return nil, err
	}
	if r.Networks, err = readNetworks(dir); err != nil {
		return nil, err
	}
	r.Processes = rec.status()
	for _, p := range r.Processes {
		name := clusterOf(p.Name)
		i := slices.IndexFunc(r.Clusters, func(t total) bool { return t.Name == name })
		if i < 0 {
			i, r.Clusters = len(r.Clusters), append(r.Clusters, total{Name: name})
		}
		r.Clusters[i].ResidentBytes += p.ResidentBytes
		r.Clusters[i].ShareBytes += p.ShareBytes
	}
	slices.SortFunc(r.Clusters, func(a, b total) int { return compareClusters(a.Name, b.Name) })
	slices.SortStableFunc(r.Processes, func(a, b ProcessStatus) int { return compareClusters(clusterOf(a.Name), clusterOf(b.Name)) })
	return r, nil
}

// compareClusters orders upper, lower-1, lower-2, ..., lower-10, parts.
func compareClusters(a, b string) int {
	rank := func(name string) int {
		k := 0
		switch name {
		case upperName:
			return -1
		case "parts":
			return 1 << 20
		}
		_, _ = fmt.Sscanf(name, "lower-%d", &k)
		return k
	}
	return rank(a) - rank(b)
}

func printStatus(dir, output string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("finding the lab folder: %w", err)
	}
	r, err := newReport(dir)
	if err != nil {
		return err
	}
	switch output {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	case "table":
	default:
		return fmt.Errorf("printing the status: -o %q is neither table nor json", output)
	}
	return printTable(r, out)
}

// printTable prints the processes and the sums over clusters. MiB counts shared pages once, RSS is what ps shows.
func printTable(r *report, out io.Writer) error {
	fmt.Fprintf(out, "lab in %s: %s (pid %d)\n", r.Dir, r.State, r.PID)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPID\tSTATE\tMiB\tRSS MiB\tEXIT")
	for _, p := range r.Processes {
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%d\t%s\n", p.Name, p.PID, p.State, p.ShareBytes>>20, p.ResidentBytes>>20, p.Exit)
	}
	for _, t := range r.Clusters {
		fmt.Fprintf(table, "%s in all\t\t\t%d\t%d\t\n", t.Name, t.ShareBytes>>20, t.ResidentBytes>>20)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return r.Networks.print(out)
}
