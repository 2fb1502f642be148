package standin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tessera-k8s/tessera/bench/standin/play"
)

// addFlags adds a flag for each option.
func (o *Options) addFlags(flags *pflag.FlagSet) {
	flags.IntVar(&o.Clusters, "clusters", o.Clusters, "lower clusters")
	flags.StringVar(&o.Prefix, "prefix", o.Prefix, "what their names begin with; a number follows")
	flags.IntVar(&o.Nodes, "nodes", o.Nodes, "nodes of each cluster")
	flags.IntVar(&o.Pods, "pods", o.Pods, "pods of each cluster")
	flags.Float64Var(&o.Pending, "pending", o.Pending, "share of the pods that no node takes, 0 to 1")
	flags.Uint64Var(&o.Seed, "seed", o.Seed, "the same seed makes the same clusters")
	flags.StringVar(&o.Dir, "dir", o.Dir, "folder for the files NAME.kubeconfig")
	flags.Float64Var(&o.Churn, "churn", o.Churn, "events a second that pods make by coming and going, in all clusters together")
	flags.DurationVar(&o.Heartbeat, "heartbeat", o.Heartbeat, "how often each node's status is renewed; 0: never")
	flags.BoolVar(&o.UniqueLabels, "unique-labels", o.UniqueLabels, "give each node labels that no other has, as TopoLVM and eksctl do")
	flags.BoolVar(&o.Lean, "lean", o.Lean, "leave out what weighs and nobody reads: managedFields, and images of nodes")
}

// args are the flags that make these options.
func (o *Options) args() []string {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	copied := *o
	copied.addFlags(set)
	var args []string
	set.VisitAll(func(f *pflag.Flag) { args = append(args, "--"+f.Name+"="+f.Value.String()) })
	return args
}

// Process is a stand-in in a process of its own, so that its processor time is told from that of who measures.
type Process struct {
	control string
	cmd     *exec.Cmd
	in      io.Closer
}

// StartProcess runs `PROGRAM standin` with these options and returns when every cluster answers. program is the path of the
// bench binary; "" is this one. The process ends with Stop, with ctx and with this process, however that ends.
func StartProcess(ctx context.Context, program string, o Options) (*Process, error) {
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding this program: %w", err)
		}
		program = self
	}
	p := &Process{cmd: exec.CommandContext(ctx, program, append([]string{"standin", "--tied", "--every=0"}, o.args()...)...)}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the stand-in: %w", err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if control, ok := strings.CutPrefix(lines.Text(), readyLine); ok {
			p.control = control
			go func() { _, _ = io.Copy(io.Discard, out) }() // Nothing of it is to fill up.
			return p, nil
		}
	}
	p.Stop()
	return nil, fmt.Errorf("starting the stand-in: it ended before it was ready: %s", p.cmd.ProcessState)
}

// Stop ends the process and waits for it.
func (p *Process) Stop() {
	_ = p.in.Close() // Which it ends with. If it has ended already, that is fine.
	_ = p.cmd.Wait()
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stats reads what the stand-in is and has done so far.
func (p *Process) Stats(ctx context.Context) (stats Stats, err error) {
	data, err := p.call(ctx, http.MethodGet, "/stats")
	if err != nil {
		return stats, err
	}
	return stats, json.Unmarshal(data, &stats)
}

// SetRates changes what is played by itself.
func (p *Process) SetRates(ctx context.Context, r play.Rates) error {
	query := url.Values{"churn": {fmt.Sprint(r.Churn)}, "heartbeat": {r.Heartbeat.String()}}
	_, err := p.call(ctx, http.MethodPost, "/rates?"+query.Encode())
	return err
}

func (p *Process) call(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, p.control+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the stand-in: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the stand-in: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= http.StatusBadRequest {
		err = errors.New(answer.Status + ": " + string(data))
	}
	if err != nil {
		return nil, fmt.Errorf("asking the stand-in: %w", err)
	}
	return data, nil
}
