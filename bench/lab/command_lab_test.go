package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// run is `bench lab ARGS` as a process of its own: this test binary again, see TestMain.
type run struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (r *run) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *run) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func startCommand(t *testing.T, args ...string) *run {
	t.Helper()
	Need(t)
	r := &run{cmd: exec.Command(os.Args[0], "-test.short"), done: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), "LAB_TEST_ARGS="+strings.Join(args, "\n"))
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // ProcessState tells
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it has ended already unless the test failed
		<-r.done
	})
	return r
}

// says waits until the output contains text.
func (r *run) says(t *testing.T, text string) {
	t.Helper()
	Eventually(t, 3*patience, func() error {
		if !strings.Contains(r.output(), text) {
			return fmt.Errorf("the output lacks %q:\n%s", text, r.output())
		}
		return nil
	})
}

// ends waits for the end and checks the exit code.
func (r *run) ends(t *testing.T, code int) {
	t.Helper()
	Eventually(t, patience, func() error {
		select {
		case <-r.done:
			return nil
		default:
			return fmt.Errorf("still running:\n%s", r.output())
		}
	})
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code is %d, want %d:\n%s", got, code, r.output())
	}
}

// TestUpStatusDown walks through the three commands, with a second up on the same folder in between.
func TestUpStatusDown(t *testing.T) {
	dir := t.TempDir()
	up := startCommand(t, "up", "--dir", dir, "--lower", "1", "--nodes", "2", "--fill", "fragmented", "--parts", "none")
	up.says(t, "stop:   Ctrl-C")
	for _, file := range []string{"upper.kubeconfig", "lower-1.kubeconfig", "kube-scheduler.yaml", "clusters/lower-1.kubeconfig", "bin/kubectl"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}

	again := startCommand(t, "up", "--dir", dir)
	again.ends(t, 1)
	if want := fmt.Sprintf("a lab with pid %d runs there already", up.cmd.Process.Pid); !strings.Contains(again.output(), want) {
		t.Errorf("a second up says %q, want %q", again.output(), want)
	}

	status := startCommand(t, "status", "--dir", dir, "-o", "json")
	status.ends(t, 0)
	var got report
	if err := json.Unmarshal([]byte(status.output()), &got); err != nil {
		t.Fatalf("%v:\n%s", err, status.output())
	}
	if got.State != "ready" || got.PID != up.cmd.Process.Pid || len(got.Clusters) != 2 || len(got.Processes) < 8 {
		t.Errorf("status is %+v", got)
	}
	for _, p := range got.Processes {
		if p.State != stateRunning || p.ResidentBytes < 10<<20 || p.ShareBytes > p.ResidentBytes {
			t.Errorf("status of a process is %+v", p)
		}
	}

	down := startCommand(t, "down", "--dir", dir)
	down.ends(t, 0)
	up.ends(t, 0)
	if !strings.Contains(down.output(), "nothing of "+dir+" is running") {
		t.Errorf("down says %q", down.output())
	}
	expectNothingLeft(t, dir)
	idle := startCommand(t, "down", "--dir", dir)
	idle.ends(t, 0)
	if !strings.Contains(idle.output(), "nothing was running") {
		t.Errorf("a second down says %q", idle.output())
	}
}

// TestUpDetached leaves a lab behind that status and down find, and whose crash status tells.
func TestUpDetached(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { _ = down(dir, io.Discard) }) // down has nothing to do unless the test failed
	up := startCommand(t, "up", "--dir", dir, "--lower", "0", "--upper-nodes", "0", "--parts", "none", "--detach")
	up.says(t, "stop:   ")
	up.ends(t, 0)
	r, err := newReport(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != "ready" || len(r.Processes) != 3 {
		t.Fatalf("status is %+v", r)
	}
	for _, p := range r.Processes {
		if p.Name == "upper/kube-scheduler" {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	Eventually(t, patience, func() error {
		if r, err = newReport(dir); err != nil || r.State != stateEnded {
			return fmt.Errorf("a process was killed but the lab is %+v, %w", r, err)
		}
		return nil
	})
	for _, p := range r.Processes {
		if p.State != stateEnded || p.Exit == "" {
			t.Errorf("status after the crash: %+v", p)
		}
	}
	status := startCommand(t, "status", "--dir", dir)
	status.ends(t, 0)
	if !strings.Contains(status.output(), "signal: killed") {
		t.Errorf("status says %q", status.output())
	}
	expectNothingLeft(t, dir)
}

// TestInterrupts sends the signals of Ctrl-C, of a closed terminal and of kill -9.
func TestInterrupts(t *testing.T) {
	for name, test := range map[string]struct {
		signal syscall.Signal
		after  string // output to wait for
		code   int
		says   string
	}{
		"while starting":  {syscall.SIGINT, "", 1, "interrupted; everything that had been started is stopped"},
		"when ready":      {syscall.SIGINT, "stop:   ", 0, "is running"},
		"terminal closed": {syscall.SIGHUP, "stop:   ", 0, "is running"},
		"killed":          {syscall.SIGKILL, "stop:   ", -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			up := startCommand(t, "up", "--dir", dir, "--lower", "0", "--upper-nodes", "0", "--parts", "none")
			if test.after != "" {
				up.says(t, test.after)
			} else {
				Eventually(t, patience, func() error {
					_, err := readRecord(dir)
					return err
				})
			}
			if err := up.cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			up.ends(t, test.code)
			if !strings.Contains(up.output(), test.says) {
				t.Errorf("the output lacks %q:\n%s", test.says, up.output())
			}
			expectNothingLeft(t, dir)
		})
	}
}

// TestUpRefusals are mistakes on the command line: a message that names the fault, exit 1, nothing started.
func TestUpRefusals(t *testing.T) {
	stranger := t.TempDir()
	if err := os.WriteFile(filepath.Join(stranger, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		`"cpu=many"`:                {"up", "--dir", t.TempDir(), "--node-shape", "cpu=many"},
		`"scheduler" is not a part`: {"up", "--dir", t.TempDir(), "--parts", "scheduler"},
		"nor a file":                {"up", "--dir", t.TempDir(), "--fill", "crowded"},
		`holds "precious"`:          {"up", "--dir", stranger},
		"there is no lab in":        {"status", "--dir", t.TempDir()},
		"neither table nor json":    {"status", "--dir", shared.Get(t).Dir(), "-o", "xml"},
	} {
		r := startCommand(t, args...)
		r.ends(t, 1)
		if !strings.Contains(r.output(), want) {
			t.Errorf("%v says %q, want %q", args, r.output(), want)
		}
	}
}
