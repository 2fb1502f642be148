package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab/network"
)

// command says how to run a process and how to see that it works.
type command struct {
	path  string
	args  []string
	env   []string
	ready func(ctx context.Context) error // nil: ready as soon as it runs
	grace time.Duration                   // time between SIGTERM and SIGKILL when stopping; 0 kills at once

	apart  bool     // Linux: in a pid and a mount namespace of its own, which end with it
	within *Process // Linux: in those of that process

	network *network.Namespace // nil: the machine's
}

// Process is a child process of the lab. Its methods may be called from any goroutine.
type Process struct {
	name string
	sup  *supervisor
	log  string

	restarting sync.Mutex // one Restart at a time: the end of a start that failed must not hit the next one

	mu       sync.Mutex
	command  command
	cmd      *exec.Cmd
	logStart int64         // size of the log when the present run began
	started  string        // start time as the kernel tells it, so that a recycled pid is never mistaken for ours
	done     chan struct{} // closed when the present run has ended
	exit     string        // how the last run ended, "" while running
	expected bool          // the present run may end: somebody here asked for it, or its start is being watched
}

// Name is the process's name, such as "lower-2/apiserver" or "extender".
func (p *Process) Name() string { return p.name }

// PID is the process's id, 0 if it never ran.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// RSS is the resident memory in bytes, 0 for a process that has ended.
func (p *Process) RSS() int64 {
	if p.Exited() {
		return 0
	}
	return residentBytes(p.PID())
}

// CPU is the processor time that the present run has taken so far, 0 once it has ended.
func (p *Process) CPU() time.Duration {
	if p.Exited() {
		return 0
	}
	return cpuTime(p.PID())
}

// Done is closed when the present run has ended.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Exited tells whether the present run has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// LogFile is the path of the file with the process's output.
func (p *Process) LogFile() string { return p.log }

// Signal sends a signal. After one that ends processes (all but SIGSTOP, SIGCONT, SIGHUP, SIGUSR1 and SIGUSR2) the lab does not
// count the end as a crash.
func (p *Process) Signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch sig {
	case syscall.SIGSTOP, syscall.SIGCONT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2:
	default:
		p.expected = true
	}
	if p.cmd == nil || p.exit != "" {
		return fmt.Errorf("signalling %s: %w", p.name, os.ErrProcessDone)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signalling %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL) // an error means that it has ended already
	<-p.Done()
}

// Stop ends the process, politely if its command has a grace, and waits until it is gone.
func (p *Process) Stop() {
	grace := p.politeness()
	if grace > 0 && p.Signal(syscall.SIGTERM) == nil {
		_ = p.Signal(syscall.SIGCONT) // a stopped process would not see the SIGTERM
		select {
		case <-p.Done():
		case <-time.After(grace):
		}
	}
	p.Kill()
}

// politeness is the time that the process gets to end by itself.
func (p *Process) politeness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.command.grace
}

// Restart ends the process if it runs, starts it again with the same arguments and waits until it is ready.
func (p *Process) Restart(ctx context.Context) error {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	p.Kill()
	return p.start(ctx, p.command)
}

// start runs the command and waits until it is ready. Until then an end is returned as an error, afterwards it is a crash.
func (p *Process) start(ctx context.Context, c command) error {
	if err := p.sup.spawn(p, c); err != nil {
		return err
	}
	if err := p.waitReady(ctx); err != nil {
		p.Kill()
		return err
	}
	p.mu.Lock()
	p.expected = false
	ended := p.exit != ""
	p.mu.Unlock()
	if ended {
		return p.endedError()
	}
	return nil
}

func (p *Process) waitReady(ctx context.Context) error {
	if p.command.ready == nil {
		return nil
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("not asked yet")
	for {
		select {
		case <-p.Done():
			return p.endedError()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last answer: %w)%s", p.name, context.Cause(ctx), last, p.tail())
		case <-tick.C:
			if last = p.command.ready(ctx); last == nil {
				return nil
			}
		}
	}
}

// errPortBusy marks an end because of a port that somebody else has taken.
var errPortBusy = errors.New("port in use")

// endedError describes how the process ended, with its last log lines and, where they tell, what to do about it.
func (p *Process) endedError() error {
	p.mu.Lock()
	exit := p.exit
	p.mu.Unlock()
	tail := p.tail()
	switch log := p.logEnd(64 << 10); {
	case strings.Contains(log, "address already in use"):
		return fmt.Errorf("running %s: %w: ended with %s%s", p.name, errPortBusy, exit, tail)
	case strings.Contains(log, "no space left on device"):
		return fmt.Errorf("running %s: ended with %s: %s%s", p.name, exit, diskFullHint(p.sup.dir), tail)
	}
	return fmt.Errorf("running %s: ended with %s%s", p.name, exit, tail)
}

// tail gives the last lines of the log, ready to be put behind an error.
func (p *Process) tail() string {
	lines := strings.Split(strings.TrimSpace(p.logEnd(4<<10)), "\n")
	lines = lines[max(0, len(lines)-8):]
	rel, err := filepath.Rel(p.sup.dir, p.log)
	if err != nil {
		rel = p.log
	}
	return fmt.Sprintf("; last lines of %s:\n  %s", rel, strings.Join(lines, "\n  "))
}

// logEnd reads at most that many bytes from the end of what the present run has logged.
func (p *Process) logEnd(most int64) string {
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	p.mu.Lock()
	from := p.logStart
	p.mu.Unlock()
	if info, err := f.Stat(); err == nil {
		from = max(from, info.Size()-most)
	}
	data, _ := io.ReadAll(io.NewSectionReader(f, from, most))
	return string(bytes.ToValidUTF8(data, nil))
}
