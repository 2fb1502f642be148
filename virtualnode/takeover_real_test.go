package virtualnode_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// held are runs of kubectl that go on.
type held struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// hold follows logs and runs echoes, so many of each, and waits until something has come of every one.
func (w *world) hold(each int) (all []held) {
	w.Helper()
	for i := range 2 * each {
		args := []string{"logs", "p", "--follow"}
		if i%2 == 0 {
			args = []string{"exec", "p", "-i", "--", "/payload", "print=begun", "echo"}
		}
		cmd := w.asks(w.Context(), nil, args...)
		cmd.Env = append(cmd.Env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS="+strconv.FormatBool(i%4 == 0))
		stdin, err := cmd.StdinPipe()
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { _ = stdin.Close() })
		out, err := cmd.StdoutPipe()
		if err != nil {
			w.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			w.Fatal(err)
		}
		h := held{cmd, make(chan struct{})}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			w.Fatalf("kubectl %v says nothing: %v", args, err)
		}
		go func() {
			defer close(h.done)
			_, _ = io.Copy(io.Discard, out)
			_ = h.cmd.Wait() // However it ends.
		}()
		all = append(all, h)
	}
	return all
}

// end waits until all of them have ended, on both sides.
func (w *world) end(what string, all []held) {
	w.Helper()
	begin, left := time.Now(), 0
	for _, h := range all {
		select {
		case <-h.done:
		case <-time.After(max(0, 30*time.Second-time.Since(begin))):
			left++
			_ = h.cmd.Process.Kill()
		}
	}
	if left > 0 {
		w.Errorf("%s: %d of %d sessions go on", what, left, len(all))
	}
	w.Logf("%s: all sessions ended within %s", what, time.Since(begin).Round(100*time.Millisecond))
	w.eventually(func() error {
		if n := echoes(w.T); n > 0 {
			return fmt.Errorf("%s: %d commands go on in the lower pod", what, n)
		}
		return nil
	})
}

// echoes counts the processes that hold began in containers on this machine.
func echoes(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		command, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err == nil && strings.HasPrefix(string(command), "/payload\x00print=begun\x00echo") {
			count++
		}
	}
	return count
}

// figure is that of a virtualnode's own metrics.
func (w *world) figure(port any, name string) (value float64) {
	w.Helper()
	page, err := ask(w.Context(), port, "/metrics")
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			if value, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil {
				w.Fatal(err)
			}
			return value
		}
	}
	w.Fatalf("there is no figure %s", name)
	return 0
}

// Twenty sessions end on both sides when the leader does, asked to or killed, and the next leader serves others. A hundred sessions that
// came and went leave nothing in the process.
func TestRealKubeletTakeOver(t *testing.T) {
	lab.NeedReal(t)
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, RealNodes: 1, UpperNodes: 1, Config: map[string]map[string]any{lab.PartVirtualNode: {
		"hint": "off", "leaderElection": map[string]any{"enabled": true, "leaseDuration": "5s", "renewDeadline": "4s", "retryPeriod": "500ms"},
	}}})
	w := newWorld(t, l)
	w.patience = 3 * time.Minute
	w.create(w.pod("p", 1, doing("tick=100ms")))
	w.becomes(w.upper, "p", "running", running)
	first, firstPort := l.Process(lab.PartVirtualNode), partFile(t, l)["insecurePort"]
	w.serves()
	goroutines, descriptors := w.figure(firstPort, "go_goroutines"), w.figure(firstPort, "process_open_fds")
	for range 10 {
		for _, h := range w.hold(5) {
			_ = h.cmd.Process.Kill()
			<-h.done
		}
	}
	w.eventually(func() error {
		now, open := w.figure(firstPort, "go_goroutines"), w.figure(firstPort, "process_open_fds")
		if now > goroutines+20 || open > descriptors+10 { // Others come and go, too; a session takes several of each.
			return fmt.Errorf("after a hundred sessions %.0f goroutines and %.0f descriptors, before %.0f and %.0f", now, open, goroutines, descriptors)
		}
		return nil
	})

	waits := startSecond(t, l)
	w.leads(waits.port, false)
	sessions := w.hold(10)
	first.Stop()
	w.end("asked to end", sessions)
	w.leads(waits.port, true)
	w.serves()
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.leads(firstPort, false)
	sessions = w.hold(10)
	waits.signal(t, syscall.SIGKILL)
	w.end("killed", sessions)
	w.leads(firstPort, true)
	w.serves()
}

// serves waits until logs come through.
func (w *world) serves() {
	w.Helper()
	w.eventually(func() error {
		if got := w.says(nil, nil, "logs", "p", "--tail=1"); got.code != 0 || got.out == "" {
			return fmt.Errorf("kubectl logs: %+v", got)
		}
		return nil
	})
}
