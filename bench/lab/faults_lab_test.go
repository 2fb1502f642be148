package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ownLab starts a lab for a test that breaks it.
func ownLab(t *testing.T, options Options) *Lab {
	t.Helper()
	Need(t)
	l, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Stop()
		expectNothingLeft(t, l.Dir())
	})
	return l
}

// expectNothingLeft fails if a process still works for the lab in dir: one with a path below dir among its arguments.
func expectNothingLeft(t *testing.T, dir string) {
	t.Helper()
	Eventually(t, patience, func() error {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no /proc
		for _, file := range files {
			line, _ := os.ReadFile(file) // it may have ended meanwhile
			if bytes.Contains(line, []byte(dir+"/")) {
				return fmt.Errorf("%s still works for %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}), dir)
			}
		}
		return nil
	})
}

// TestProcesses stops, kills and restarts processes without the lab taking it for a crash.
func TestProcesses(t *testing.T) {
	l := ownLab(t, Options{})
	scheduler := l.Process("upper/kube-scheduler")
	stateIs := func(want string) {
		t.Helper()
		Eventually(t, patience, func() error {
			for _, s := range l.Status() {
				if s.Name == scheduler.Name() && s.State != want {
					return fmt.Errorf("state is %s, want %s", s.State, want)
				}
			}
			return nil
		})
	}
	stateIs(stateRunning)
	if scheduler.RSS() < 10<<20 {
		t.Errorf("resident memory is %d", scheduler.RSS())
	}
	for _, step := range []struct {
		signal syscall.Signal
		state  string
	}{{syscall.SIGSTOP, stateStopped}, {syscall.SIGCONT, stateRunning}, {syscall.SIGKILL, stateEnded}} {
		if err := scheduler.Signal(step.signal); err != nil {
			t.Fatal(err)
		}
		stateIs(step.state)
	}
	before := scheduler.PID()
	if err := scheduler.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if scheduler.PID() == before || scheduler.Exited() {
		t.Errorf("pid %d before the restart, %d after it", before, scheduler.PID())
	}
	expectRestartKeepsObjects(t, l)
	if err := l.Err(); err != nil {
		t.Errorf("the lab takes it for a crash: %v", err)
	}
}

// expectRestartKeepsObjects kills the API server with etcd in it: it comes back with its objects.
func expectRestartKeepsObjects(t *testing.T, l *Lab) {
	t.Helper()
	client, ns := namespace(t, l, 0)
	begin := time.Now()
	if err := l.Process("upper/apiserver").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("kube-apiserver was ready again after %s", time.Since(begin).Round(time.Millisecond))
	Eventually(t, patience, func() error {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		return err
	})
}

// TestCrash kills a process behind the lab's back.
func TestCrash(t *testing.T) {
	l := ownLab(t, Options{})
	if err := syscall.Kill(l.Process("upper/kube-controller-manager").PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("the crash was not noticed")
	}
	for _, want := range []string{"upper/kube-controller-manager", "signal: killed", "last lines of logs/upper-kube-controller-manager.log"} {
		if !strings.Contains(l.Err().Error(), want) {
			t.Errorf("error is %q, it lacks %q", l.Err(), want)
		}
	}
}

// TestBusyPort takes the port that the lab wants first.
func TestBusyPort(t *testing.T) {
	Need(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	calls, log := 0, &strings.Builder{}
	l, err := start(t.Context(), Options{Log: log}, func() (int, error) {
		if calls++; calls == 1 {
			return listener.Addr().(*net.TCPAddr).Port, nil
		}
		return freePort()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	if !strings.Contains(log.String(), "was taken meanwhile, trying another one") {
		t.Errorf("the log does not tell: %s", log)
	}
	client, err := kubernetes.NewForConfig(l.Upper())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		t.Error(err)
	}
}

// TestBusyPortTwice has no free port to offer: the lab gives up with the reason.
func TestBusyPortTwice(t *testing.T) {
	Need(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := t.TempDir()
	_, err = start(t.Context(), Options{Dir: dir}, func() (int, error) { return listener.Addr().(*net.TCPAddr).Port, nil })
	if !errors.Is(err, errPortBusy) || !strings.Contains(err.Error(), "upper/apiserver") {
		t.Errorf("error is %v", err)
	}
	expectNothingLeft(t, dir)
}

// TestCancelledStart ends the context while the control planes start.
func TestCancelledStart(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	dir, reason := t.TempDir(), errors.New("enough")
	go func() {
		running := func(context.Context) error {
			rec, err := readRecord(dir)
			if err == nil && len(rec.Processes) == 0 {
				err = errors.New("none is recorded")
			}
			return err
		}
		if poll(ctx, "the first process", running) == nil {
			cancel(reason)
		}
	}()
	l, err := Start(ctx, Options{Dir: dir, Lower: 1})
	if err == nil {
		l.Stop()
		t.Fatal("the start went on")
	}
	if !errors.Is(err, reason) && !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	expectNothingLeft(t, dir)
}

// TestFullDisk starts a lab on a file system of 1 MiB.
func TestFullDisk(t *testing.T) {
	Need(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tessera-lab-test", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting a small file system needs root on Linux: %v: %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v: %s", err, out)
		}
	}()
	l, err := Start(t.Context(), Options{Dir: dir + "/lab"})
	if err == nil {
		l.Stop()
		t.Fatal("the lab started on a full disk")
	}
	for _, want := range []string{"is full: free some room", dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %q, it lacks %q", err, want)
		}
	}
	expectNothingLeft(t, dir)
}
