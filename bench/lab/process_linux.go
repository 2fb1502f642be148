package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childAttributes puts a child into its own process group, so that Ctrl-C reaches the lab alone, and lets the kernel end
// it when the thread that started it ends: even a lab that is killed leaves nothing behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startChild starts a child: apart is in namespaces of its own, inside the process whose namespaces it shares, 0 for none. It
// is called on the thread that forks all children.
func startChild(cmd *exec.Cmd, apart bool, inside int) error {
	if apart {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	if inside != 0 {
		return startInside(cmd, inside)
	}
	return cmd.Start()
}

// startInside starts a child in the pid and mount namespaces of another one. nsenter enters the second of them and becomes the
// child; the first is for those who are forked after it was entered, and so it is entered here, for a moment.
func startInside(cmd *exec.Cmd, pid int) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	cmd.Args = append([]string{nsenter, fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = nsenter
	cmd.SysProcAttr.Pdeathsig = 0 // it would not see its parent from in there, and it ends with that namespace anyway
	own, err := os.Open("/proc/thread-self/ns/pid")
	if err != nil {
		return err
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("entering the namespace of process %d: %w", pid, err)
	}
	err = cmd.Start()
	return errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWPID))
}

// statFields gives the fields of /proc/PID/stat from the state (field 3) on; the command name before may hold spaces.
func statFields(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	text := string(data)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// startTime is the process's start in clock ticks since boot, "" if there is no such process (or only its zombie).
func startTime(pid int) string {
	if f := statFields(pid); len(f) > 19 && f[0] != "Z" && f[0] != "X" {
		return f[19]
	}
	return ""
}

// runState is "running", "stopped" (SIGSTOP) or "ended".
func runState(pid int) string {
	f := statFields(pid)
	switch {
	case len(f) == 0, f[0] == "Z", f[0] == "X":
		return stateEnded
	case f[0] == "T", f[0] == "t":
		return stateStopped
	}
	return stateRunning
}

// clockTick is what /proc counts processor time in: 10 ms on every machine that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuTime is the processor time that a process has taken, in user mode and in the kernel.
func cpuTime(pid int) time.Duration {
	f := statFields(pid)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// residentBytes is the resident memory of a process as ps shows it, shared pages included.
func residentBytes(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// shareBytes is the resident memory with each shared page divided by the number of processes that map it, so that the sum over
// processes counts it once. The processes of all control planes run one binary and share some 150 MiB.
func shareBytes(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return residentBytes(pid)
	}
	_, rest, _ := strings.Cut(string(data), "\nPss:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return residentBytes(pid)
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

// processName is the short name of a process, "" if it is unknown.
func processName(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}
