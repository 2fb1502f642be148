//go:build !linux

package lab

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

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

func residentBytes(pid int) int64 {
	kib, _ := strconv.ParseInt(ps(pid, "rss"), 10, 64)
	return kib << 10
}

func shareBytes(pid int) int64 { return residentBytes(pid) }

func processName(pid int) string { return filepath.Base(ps(pid, "comm")) }
