//go:build !linux

package lab

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// startChild leaves namespaces aside: only a real node has them, and it needs Linux.
func startChild(cmd *exec.Cmd, _ bool, _ int) error { return cmd.Start() }

// ps asks the ps command for one column of one process.
func ps(pid int, column string) string {
	out, err := exec.Command("ps", "-o", column+"=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func startTime(pid int) string { return ps(pid, "lstart") }

func runState(pid int) string {
	switch state := ps(pid, "state"); {
	case state == "", state[0] == 'Z':
		return stateEnded
	case state[0] == 'T':
		return stateStopped
	}
	return stateRunning
}

// cpuTime reads [[DAYS-]HOURS:]MINUTES:SECONDS, where the seconds may have a fraction.
func cpuTime(pid int) time.Duration {
	text := ps(pid, "time")
	days, rest, ok := strings.Cut(text, "-")
	if !ok {
		days, rest = "0", text
	}
	seconds, _ := strconv.ParseFloat(days, 64)
	for i, part := range strings.Split(rest, ":") {
		n, _ := strconv.ParseFloat(part, 64)
		if i == 0 && strings.Count(rest, ":") == 2 {
			n += seconds * 24
			seconds = 0
		}
		seconds = seconds*60 + n
	}
	return time.Duration(seconds * float64(time.Second))
}

func residentBytes(pid int) int64 {
	kib, _ := strconv.ParseInt(ps(pid, "rss"), 10, 64)
	return kib << 10
}

func shareBytes(pid int) int64 { return residentBytes(pid) }

func processName(pid int) string { return filepath.Base(ps(pid, "comm")) }
