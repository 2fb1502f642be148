package virtualnode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// partFile reads the configuration that the lab gave to virtualnode.
func partFile(t *testing.T, l *lab.Lab) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.Dir(), "parts", lab.PartVirtualNode+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// ask reads a page of a virtualnode's plain listener.
func ask(ctx context.Context, port any, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%v%s", port, path), nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// leads waits until the replica behind a port says that it serves the virtual nodes, or that it does not.
func (w *world) leads(port any, want bool) {
	w.Helper()
	line := "\ntessera_virtualnode_leader 0\n"
	if want {
		line = "\ntessera_virtualnode_leader 1\n"
	}
	w.eventually(func() error {
		page, err := ask(w.Context(), port, "/metrics")
		if err == nil && !strings.Contains(page, line) {
			err = fmt.Errorf("the replica at %v does not say %q", port, strings.TrimSpace(line))
		}
		return err
	})
}

// second runs another virtualnode beside the lab's.
type second struct {
	cmd  *exec.Cmd
	port int
	log  *bytes.Buffer
	done chan error
}

func startSecond(t *testing.T, l *lab.Lab) *second {
	t.Helper()
	s := &second{port: freePort(t), log: &bytes.Buffer{}, done: make(chan error, 1)}
	config := partFile(t, l)
	config["listen"], config["insecurePort"] = "", s.port
	data, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "second.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(l.Tessera(), "virtualnode", "--config", file)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // It has ended where the test went well.
	return s
}

func (s *second) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// stream creates pods all the time until the function it returns is called, which tells how many.
func (w *world) stream(k int) (stop func() int) {
	ctx, cancel := context.WithCancel(w.Context())
	count, done := atomic.Int64{}, make(chan error, 1)
	go func() {
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-ticker.C:
			}
			pod := w.pod(fmt.Sprint("stream-", count.Load()), k)
			if _, err := w.upper.CoreV1().Pods(w.ns).Create(w.Context(), pod, metav1.CreateOptions{}); err != nil {
				done <- err
				return
			}
			count.Add(1)
		}
	}()
	return func() int {
		w.Helper()
		cancel()
		if err := <-done; err != nil {
			w.Fatal(err)
		}
		return int(count.Load())
	}
}

// A replica takes over from one that was killed, that hangs or that is asked to end, while pods are created all the time:
// none is lost and none is doubled, also by a replica that wakes up after another has taken over.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	l := own(t, lab.Options{Lower: 1, Nodes: 4, UpperNodes: 1, Config: map[string]map[string]any{lab.PartVirtualNode: {
		"leaderElection": map[string]any{"enabled": true, "leaseDuration": "5s", "renewDeadline": "4s", "retryPeriod": "500ms"},
	}}})
	w := newWorld(t, l)
	counted := &census{seen: map[string]map[types.UID]bool{}}
	counted.take(t.Context(), t, w, 1)
	first, firstPort := l.Process(lab.PartVirtualNode), partFile(t, l)["insecurePort"]
	w.leads(firstPort, true)
	waits := startSecond(t, l)
	w.leads(waits.port, false)
	if _, err := ask(t.Context(), waits.port, "/readyz"); err != nil {
		t.Errorf("the replica that waits is not ready: %v", err)
	}
	stop := w.stream(1)

	begin := time.Now()
	first.Kill()
	w.leads(waits.port, true)
	t.Logf("taken over %s after the end of the one before", time.Since(begin).Round(100*time.Millisecond))
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.leads(firstPort, false)

	waits.signal(t, syscall.SIGSTOP)
	begin = time.Now()
	w.leads(firstPort, true)
	t.Logf("taken over %s after the one before began to hang", time.Since(begin).Round(100*time.Millisecond))
	w.create(w.pod("proof", 1))
	w.becomes(w.upper, "proof", "Running", running)
	waits.signal(t, syscall.SIGCONT)
	select {
	case err := <-waits.done:
		if ended := (*exec.ExitError)(nil); !errors.As(err, &ended) || !strings.Contains(waits.log.String(), "losing the lease tessera-virtualnode") {
			t.Errorf("the replica that lost its lease ended with %v:\n%s", err, waits.log)
		}
	case <-time.After(patience):
		t.Error("the replica that lost its lease goes on")
	}

	last := startSecond(t, l)
	w.leads(last.port, false)
	begin = time.Now()
	first.Stop()
	w.leads(last.port, true)
	t.Logf("taken over %s after the one before was asked to end", time.Since(begin).Round(100*time.Millisecond))
	w.allRunOnce(counted, stop()+1)
	last.signal(t, syscall.SIGTERM)
	if err := <-last.done; err != nil {
		t.Errorf("the orderly end of a replica: %v:\n%s", err, last.log)
	}
}

// allRunOnce waits until so many pods are running above and checks that each was once below, with one UID.
func (w *world) allRunOnce(counted *census, want int) {
	w.Helper()
	w.alive(func() (*corev1.PodList, error) {
		return w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{})
	}, want)
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if len(counted.seen) != want {
		w.Errorf("%d names were seen below, want %d", len(counted.seen), want)
	}
	for name, uids := range counted.seen {
		if len(uids) != 1 {
			w.Errorf("%s existed %d times below", name, len(uids))
		}
	}
}
