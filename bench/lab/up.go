package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// errInterrupted is the end of a lab by Ctrl-C or by down.
var errInterrupted = errors.New("interrupted")

// backgroundEnv tells an `up --detach` that it is the one in the background.
const backgroundEnv = "TESSERA_LAB_BACKGROUND"

func newUpCommand(dir *string) *cobra.Command {
	var shapes, parts []string
	var detach bool
	options := Options{}
	command := &cobra.Command{
		Use:   "up",
		Short: "Start a lab that stays up until Ctrl-C or `lab down`",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Dir, options.Log = *dir, cmd.OutOrStdout()
			for _, text := range shapes {
				shape, err := ParseShape(text)
				if err != nil {
					return err
				}
				options.Shapes = append(options.Shapes, shape)
			}
			shared := func(s Shape) bool { return s.Count == 0 }
			if !cmd.Flags().Changed("nodes") && len(options.Shapes) > 0 && !slices.ContainsFunc(options.Shapes, shared) {
				options.Nodes = 0 // the counts say it
			}
			options.Parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" || p == "none" })
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if detach && os.Getenv(backgroundEnv) == "" {
				return upDetached(ctx, *dir, cmd.OutOrStdout())
			}
			return up(ctx, options)
		},
	}
	flags := command.Flags()
	flags.IntVar(&options.Lower, "lower", 3, "number of lower clusters")
	flags.IntVar(&options.Nodes, "nodes", 20, "number of nodes in each lower cluster; if all shapes have a count, their sum")
	flags.IntVar(&options.UpperNodes, "upper-nodes", 1, "number of real nodes in the upper cluster")
	flags.IntVar(&options.RealNodes, "real-node", 0, "lower-1, or that many lower clusters, have one node that runs pods, in place of KWOK's "+
		"(Linux, root)")
	flags.Lookup("real-node").NoOptDefVal = "1"
	flags.StringVar((*string)(&options.Networks), "networks", "", "flat or isolated: a network for each cluster, and a real node, Services, "+
		"DNS and metrics in the lower ones (Linux, root)")
	flags.Lookup("networks").NoOptDefVal = string(Flat)
	flags.StringArrayVar(&shapes, "node-shape", nil, "shape of the nodes, such as cpu=16,memory=64Gi,nvidia.com/gpu=0; "+
		"repeatable; count=K for K nodes a cluster, cluster=K for lower-K alone")
	flags.StringVar(&options.Fill, "fill", FillEmpty, "empty, fragmented, or a file with a list of holes")
	flags.Int64Var(&options.Seed, "seed", 1, "seed of --fill fragmented")
	flags.StringSliceVar(&parts, "parts", Parts, "parts of Tessera to run; none for a lab without")
	flags.BoolVar(&options.ShortTimers, "short-timers", false, "notice dead nodes within 8 s")
	flags.BoolVar(&detach, "detach", false, "return when the lab is ready and leave it running")
	return command
}

// interruptible ends ctx on Ctrl-C, on SIGTERM (which down sends), when the terminal goes away, and when `go run` in front of this
// process was killed. A second Ctrl-C ends the process at once; the kernel then ends the children.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	parent := os.Getppid()
	underGo := processName(parent) == "go"
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				signal.Stop(signals)
				cancel(errInterrupted)
				return
			case <-tick.C:
				if underGo && os.Getppid() != parent {
					cancel(errInterrupted)
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// up runs a lab until ctx ends, which is no error, or until a process crashes.
func up(ctx context.Context, options Options) error {
	l, err := Start(ctx, options)
	if errors.Is(err, errInterrupted) || (err != nil && errors.Is(context.Cause(ctx), errInterrupted)) {
		return fmt.Errorf("starting the lab: %w; everything that had been started is stopped", errInterrupted)
	}
	if err != nil {
		return err
	}
	defer l.Stop()
	l.printAccess()
	select {
	case <-ctx.Done():
		l.printf("stopping")
		l.Stop()
		l.printf("stopped, nothing of %s is running", l.dir)
		return nil
	case <-l.Done():
		err := l.Err()
		l.Stop()
		return fmt.Errorf("the lab is stopped because a process ended: %w", err)
	}
}

// printAccess tells how to use the lab.
func (l *Lab) printAccess() {
	out := l.options.Log
	fmt.Fprintf(out, "\nresident memory, pages that processes share counted once:")
	for _, c := range l.clusters {
		fmt.Fprintf(out, "  %s %d MiB", c.name, l.memoryMiB(c.name))
	}
	fmt.Fprintf(out, "\nupper:  export KUBECONFIG=%s PATH=%s:$PATH\n", l.UpperKubeconfig(), filepath.Join(l.dir, "bin"))
	for k := 1; k <= l.options.Lower; k++ {
		fmt.Fprintf(out, "%s: %s\n", l.LowerName(k), l.LowerKubeconfig(k))
	}
	if places, err := readNetworks(l.dir); err == nil { // status tells the error
		_ = places.print(out) // as everything here: nobody is left to be told
	}
	fmt.Fprintf(out, "scheduler: %s\n", filepath.Join(l.dir, schedulerFile))
	if url := l.ExtenderURL(); url != "" {
		fmt.Fprintf(out, "extender: %s\n", url)
		for _, path := range []string{"/debug/clusters", "/debug/holds", "/debug/pods/NAMESPACE/NAME"} {
			fmt.Fprintf(out, "  curl -s %s%s\n", url, path)
		}
	}
	fmt.Fprintf(out, "stop:   Ctrl-C, or: go run ./bench lab down --dir %s\n", l.dir)
}

// upDetached runs `up` in a session of its own and returns when that lab is ready, passing its output on meanwhile.
func upDetached(ctx context.Context, dir string, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the lab in the background: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the lab folder: %w", diskError(dir, err))
	}
	output, err := os.OpenFile(filepath.Join(dir, backgroundLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("starting the lab in the background: %w", diskError(dir, err))
	}
	defer output.Close()
	begin, err := output.Seek(0, io.SeekEnd) // what an earlier or running lab has written is not ours
	if err != nil {
		return fmt.Errorf("starting the lab in the background: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), backgroundEnv+"=1")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the lab in the background: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(ended)
	}()
	in, err := os.Open(output.Name())
	if err != nil {
		return fmt.Errorf("reading the output of the lab: %w", err)
	}
	defer in.Close()
	return followDetached(ctx, cmd, ended, io.NewSectionReader(in, begin, 1<<40), out)
}

// followDetached copies the background lab's output until it prints its last line of start, ends, or ctx ends.
func followDetached(ctx context.Context, cmd *exec.Cmd, ended <-chan struct{}, in io.Reader, out io.Writer) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var seen strings.Builder
	for {
		_, _ = io.Copy(io.MultiWriter(out, &seen), in)
		if strings.Contains(seen.String(), "\nstop:   ") {
			return nil
		}
		select {
		case <-ended:
			_, _ = io.Copy(out, in)
			return fmt.Errorf("starting the lab in the background: it ended with %s", cmd.ProcessState)
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM) // it stops what it has started
			<-ended
			_, _ = io.Copy(out, in)
			return fmt.Errorf("starting the lab: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
