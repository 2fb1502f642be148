package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// NewCommand gives `bench lab` with its subcommands up, down, status and build.
func NewCommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:   "lab",
		Short: "Run one upper and several lower clusters on this machine",
	}
	command.PersistentFlags().StringVar(&dir, "dir", defaultDir(), "the lab's folder")
	command.AddCommand(newUpCommand(&dir), newDownCommand(&dir), newStatusCommand(&dir), newBuildCommand())
	return command
}

func defaultDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "tessera", "lab")
}

func newDownCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop everything of the lab in --dir",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return down(*dir, cmd.OutOrStdout()) },
	}
}

// down ends the lab process, which ends its children, and then whatever is left. It signals only processes that hold the folder's
// lock or whose start time is the recorded one, so never a stranger that got a recycled pid.
func down(dir string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("finding the lab folder: %w", err)
	}
	rec, err := readRecord(dir)
	if errors.Is(err, os.ErrNotExist) {
		rec = &record{}
	} else if err != nil {
		return err
	}
	ended, err := endHolder(filepath.Join(dir, lockFile))
	if err != nil {
		return fmt.Errorf("stopping the lab in %s: %w", dir, err)
	}
	for _, e := range rec.Processes {
		if e.alive() {
			ended = true
			_ = syscall.Kill(e.PID, syscall.SIGKILL) // waitGone tells
		}
	}
	if left := waitGone(rec.Processes, 10*time.Second); len(left) > 0 {
		return fmt.Errorf("stopping the lab in %s: %s (pid %d) does not end", dir, left[0].Name, left[0].PID)
	}
	if ended {
		fmt.Fprintf(out, "lab: stopped, nothing of %s is running\n", dir)
	} else {
		fmt.Fprintf(out, "lab: nothing was running in %s\n", dir)
	}
	return nil
}

// endHolder ends the process that holds the lock, with SIGTERM first. It tells whether there was one.
func endHolder(path string) (bool, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	begin, sent := time.Now(), syscall.Signal(0)
	for {
		held, err := lock(path)
		if err == nil {
			held.release()
			return sent != 0, nil
		}
		locked := (*lockedError)(nil)
		if !errors.As(err, &locked) {
			return false, err
		}
		want := syscall.SIGTERM
		if time.Since(begin) > 15*time.Second {
			want = syscall.SIGKILL
		}
		if time.Since(begin) > 25*time.Second {
			return false, fmt.Errorf("the lab process with pid %d does not end", locked.pid)
		}
		if want != sent && locked.pid > 0 {
			sent = want
			if err := syscall.Kill(locked.pid, sent); err != nil && !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("signalling the lab process with pid %d: %w", locked.pid, err)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
