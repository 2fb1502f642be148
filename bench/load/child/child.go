// Package child runs this program once more with another command, for what has to be a process of its own to be measured.
package child

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is such a process.
type Process struct{ command *exec.Cmd }

// Start runs the command of those arguments until ctx ends and returns once it has printed its first line, which says that it
// is ready.
func Start(ctx context.Context, args ...string) (*Process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("finding this program: %w", err)
	}
	p := &Process{exec.CommandContext(ctx, self, args...)}
	p.command.Stderr = os.Stderr
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, "", fmt.Errorf("starting %s: %w", args, err)
	}
	if err := p.command.Start(); err != nil {
		return nil, "", fmt.Errorf("starting %s: %w", args, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = p.command.Process.Kill() // It may have ended by itself, which its own words tell.
		return nil, "", fmt.Errorf("starting %s: it said %q and ended: %w, %w", args, line, err, p.command.Wait())
	}
	return p, strings.TrimSuffix(line, "\n"), nil
}

// End asks the process to end and returns the processor time that it has taken.
func (p *Process) End() time.Duration {
	_ = p.command.Process.Signal(syscall.SIGTERM) // If it has ended, Wait says so.
	return p.wait()
}

// Kill ends the process at once; one that has ended stays so.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	p.wait()
}

func (p *Process) wait() time.Duration {
	if p.command.ProcessState == nil {
		_ = p.command.Wait() // ProcessState tells.
	}
	return p.command.ProcessState.UserTime() + p.command.ProcessState.SystemTime()
}
