package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockedError says that another process holds a lock.
type lockedError struct{ pid int }

func (e *lockedError) Error() string { return fmt.Sprintf("held by the process with pid %d", e.pid) }

// fileLock is an advisory lock that the kernel drops when its holder ends, however it ends.
type fileLock struct{ file *os.File }

// lock takes the lock on path; if another process has it, that is a *lockedError at once.
// The file holds the pid of the holder.
func lock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock %s: %w", path, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := io.ReadAll(f)
		f.Close()
		pid, _ := strconv.Atoi(strings.TrimSpace(string(holder)))
		return nil, &lockedError{pid: pid}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0) // for messages only
	}
	return &fileLock{file: f}, nil
}

// release gives the lock back. The file stays: removing it would let two processes lock two files of one name.
func (l *fileLock) release() { l.file.Close() }
