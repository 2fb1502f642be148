package virtualnode_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// said is what kubectl printed, and how it ended.
type said struct {
	out, err string
	code     int
}

// asks is a run of kubectl in the test's namespace, which ends with the context.
func (w *world) asks(ctx context.Context, stdin io.Reader, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.lab.Planes(), append([]string{"kubectl", "--namespace=" + w.ns}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.lab.UpperKubeconfig())
	cmd.Stdin = stdin
	return cmd
}

// says runs kubectl to its end, with more variables in its environment.
func (w *world) says(stdin io.Reader, env []string, args ...string) said {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), w.patience)
	defer cancel()
	cmd := w.asks(ctx, stdin, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(cmd.Env, env...), &out, &errs
	err := cmd.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		w.Fatal(err)
	}
	if ctx.Err() != nil {
		w.Errorf("kubectl %v does not end: %s%s", args, out.String(), errs.String())
	}
	return said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// talks types a word into a run of kubectl and waits for the echo before there is no more to type: what a container says after the end
// of its input need not arrive.
func (w *world) talks(args ...string) said {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), w.patience)
	defer cancel()
	cmd := w.asks(ctx, nil, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		w.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	if _, err := io.WriteString(in, "typed\n"); err != nil {
		w.Error(err)
	}
	var heard bytes.Buffer
	for part := make([]byte, 100); !strings.Contains(heard.String(), "typed\n"); {
		n, err := out.Read(part)
		if heard.Write(part[:n]); err != nil {
			break
		}
	}
	_ = in.Close()
	_, _ = io.Copy(&heard, out)
	_ = cmd.Wait() // The code says it.
	return said{heard.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// expects compares what kubectl says, in its output and errors, with patterns.
func (w *world) expects(name string, got said, code int, out, err string) {
	w.Helper()
	matches := func(pattern, text string) bool { return regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(text) }
	if got.code != code || !matches(out, got.out) || !matches(err, got.err) {
		w.Errorf("%s: code %d, output %q, errors %q", name, got.code, got.out, got.err)
	}
}

func TestRealKubeletLogs(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("print=one", "sleep=500ms", "warn=two", "sleep=500ms", "print=three", "tick=100ms"), func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{payload("init", "print=zero", "exit=0")}
		p.Spec.Containers = append(p.Spec.Containers, payload("side", "print=beside", "wait"))
	}))
	w.create(w.pod("done", 1, never, doing("print=bye", "exit=3")))
	w.create(w.pod("crashing", 1, doing("print=before", "sleep=1s", "exit=4")))
	w.becomes(w.upper, "p", "running", running)
	w.becomes(w.upper, "done", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	w.eventually(func() error {
		if got := w.says(nil, nil, "logs", "p", "-c", "main"); !strings.HasPrefix(got.out, "one\ntwo\nthree\n1\n") {
			return fmt.Errorf("says %+v", got)
		}
		return nil
	})
	begun := time.Now().UTC().Format(time.RFC3339)
	stamp := `\d{4}-\d\d-\d\dT\S+`
	for name, c := range map[string]struct {
		args     []string
		code     int
		out, err string
	}{
		"init":         {[]string{"p", "-c", "init"}, 0, "zero\n", ""},
		"finished":     {[]string{"done"}, 0, "bye\n", ""},
		"tail":         {[]string{"p", "-c", "main", "--tail=2"}, 0, `\d+\n\d+\n`, ""},
		"timestamps":   {[]string{"p", "-c", "side", "--timestamps"}, 0, stamp + " beside\n", ""},
		"limit":        {[]string{"p", "-c", "main", "--limit-bytes=5"}, 0, "one\nt", ""},
		"since":        {[]string{"p", "-c", "side", "--since=1s"}, 0, "", ""},
		"since time":   {[]string{"p", "-c", "side", "--since-time=" + begun}, 0, "(beside\n)?", ""},
		"all":          {[]string{"p", "--all-containers", "--prefix", "--tail=1"}, 0, `(\[pod/p/\w+\] \w+\n){3}`, ""},
		"no container": {[]string{"p", "-c", "other"}, 1, "", "error: container other is not valid for pod p.*"},
		"no pod":       {[]string{"q"}, 1, "", `error: error from server \(NotFound\): pods "q" not found.*`},
		"no previous":  {[]string{"p", "-c", "side", "--previous"}, 1, "", `Error from server \(BadRequest\): previous terminated container "side" in pod "p" not found\n`},
	} {
		w.expects(name, w.says(nil, nil, append([]string{"logs"}, c.args...)...), c.code, c.out, c.err)
	}
	w.eventually(func() error {
		if got := w.says(nil, nil, "logs", "crashing", "--previous"); got.out != "before\n" {
			return fmt.Errorf("says %+v", got)
		}
		return nil
	})
	w.followsToTheEnd()
}

// followsToTheEnd follows the logs of a pod that goes meanwhile.
func (w *world) followsToTheEnd() {
	w.Helper()
	follow := w.asks(w.Context(), nil, "logs", "p", "-c", "main", "--follow", "--tail=1")
	out, err := follow.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		w.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(out, first); err != nil {
		w.Errorf("nothing comes: %v", err)
	}
	if err := w.upper.CoreV1().Pods(w.ns).Delete(w.Context(), "p", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, out)
		ended <- follow.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(w.patience):
		_ = follow.Process.Kill()
		w.Error("kubectl logs --follow does not end with the pod")
	}
}

func TestRealKubeletStreams(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("serve=8080", "echo", "wait"), func(p *corev1.Pod) {
		p.Spec.Containers[0].ReadinessProbe, p.Spec.Containers[0].Stdin = probe(8080), true
	}))
	w.becomes(w.upper, "p", "Ready", isReady)
	for name, env := range map[string]string{"WebSocket": "true", "SPDY": "false"} {
		run := func(stdin string, args ...string) said {
			cmd := []string{"exec", "p", "-c", "main"}
			if stdin != "" {
				cmd = append(cmd, "-i")
			}
			return w.says(strings.NewReader(stdin), []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=" + env}, append(append(cmd, "--"), args...)...)
		}
		w.expects(name, run("", "/payload", "print=out", "warn=err"), 0, "out\n", "err\n")
		w.expects(name+", exit code", run("", "/payload", "exit=7"), 7, "", "command terminated with exit code 7\n")
		w.expects(name+", stdin", run("typed\n", "/payload", "echo"), 0, "typed\n", "")
		w.expects(name+", no command", run("", "/no/such"), 1, "", ".*no such file or directory.*")
	}
	w.expects("attach", w.talks("attach", "p", "-i", "-c", "main"), 0, "typed\n", ".*")
	w.forwards()
	w.terminal()
}

// terminal runs a command in a terminal.
func (w *world) terminal() {
	w.Helper()
	request := w.upper.CoreV1().RESTClient().Post().Namespace(w.ns).Resource("pods").Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: "main", Command: []string{"/payload", "link=/proc/self/fd/0", "exit=5"}, Stdin: true, Stdout: true, TTY: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(w.lab.Upper(), http.MethodGet, request.URL().String())
	if err != nil {
		w.Fatal(err)
	}
	sizes := make(chan remotecommand.TerminalSize, 1)
	sizes <- remotecommand.TerminalSize{Width: 80, Height: 25}
	typed, never := io.Pipe()
	defer never.Close()
	var out bytes.Buffer
	err = executor.StreamWithContext(w.Context(), remotecommand.StreamOptions{
		Stdin: typed, Stdout: &out, Tty: true, TerminalSizeQueue: queue(sizes),
	})
	var ended interface{ ExitStatus() int }
	if !errors.As(err, &ended) || ended.ExitStatus() != 5 || !strings.HasPrefix(out.String(), "/dev/pts/") {
		w.Errorf("in a terminal: %q, %v", out.String(), err)
	}
	close(sizes)
}

// queue is one of sizes of a terminal.
type queue chan remotecommand.TerminalSize

// Next implements remotecommand.TerminalSizeQueue.
func (q queue) Next() *remotecommand.TerminalSize {
	size, ok := <-q
	if !ok {
		return nil
	}
	return &size
}

// forwards asks a pod by a port of this machine.
func (w *world) forwards() {
	w.Helper()
	forward := w.asks(w.Context(), nil, "port-forward", "pod/p", ":8080")
	out, err := forward.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		w.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	line := make([]byte, 200)
	n, err := out.Read(line)
	found := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(line[:n]))
	if err != nil || found == "" {
		w.Fatalf("it says %q, %v", line[:n], err)
	}
	for range 3 {
		answer, err := http.Get("http://" + found)
		if err != nil {
			w.Error(err)
			return
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if string(body) != "p\n" {
			w.Errorf("the pod says %q, %v", body, err)
		}
	}
}

// Files come to a pod and back as they are; 20 MB take more than any buffer.
func TestRealKubeletCopy(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait")))
	w.becomes(w.upper, "p", "running", running)
	dir := t.TempDir()
	data := make([]byte, 20<<20)
	_, _ = rand.Read(data) // It never fails.
	if err := os.WriteFile(filepath.Join(dir, "there"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expects("there", w.says(nil, nil, "cp", filepath.Join(dir, "there"), "p:/file"), 0, "", "")
	w.expects("back", w.says(nil, nil, "cp", "p:/file", filepath.Join(dir, "back")), 0, ".*", ".*")
	back, err := os.ReadFile(filepath.Join(dir, "back"))
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(data), err)
	}
}

// An ephemeral container is added and attached to, and a pod is run for as long as somebody is attached.
func TestRealKubeletDebug(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait")))
	w.becomes(w.upper, "p", "running", running)
	image := []string{"--image=" + realnode.Image, "--image-pull-policy=Never"}
	debug := append([]string{"debug", "p", "-i", "--container=debugger", "--profile=general"}, image...)
	got := w.talks(append(debug, "--", "/payload", "print=hello", "echo")...)
	if got.code != 0 || !strings.Contains(got.out, "typed\n") {
		t.Errorf("debug: %+v", got)
	}
	w.expects("its logs", w.says(nil, nil, "logs", "p", "-c", "debugger"), 0, "hello\ntyped\n", "")
	bound := w.pod("run", 1)
	overrides, err := json.Marshal(map[string]any{"spec": map[string]any{"nodeSelector": bound.Spec.NodeSelector, "tolerations": bound.Spec.Tolerations,
		"containers": []any{map[string]any{"name": "run", "resources": bound.Spec.Containers[0].Resources}}}})
	if err != nil {
		t.Fatal(err)
	}
	run := append([]string{"run", "run", "-i", "--rm", "--restart=Never", "--override-type=strategic", "--overrides=" + string(overrides)}, image...)
	got = w.talks(append(run, "--", "echo", "exit=0")...)
	if got.code != 0 || !strings.Contains(got.out, "typed\n") || !strings.Contains(got.out, "deleted") {
		t.Errorf("run: %+v", got)
	}
	w.vanishes(w.upper, "run")
}

// The kubelet API asks who comes and what they may; the right to nodes/proxy of this Node is needed, and enough.
func TestRealKubeletRights(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, never, doing("print=hello", "exit=0")))
	w.becomes(w.upper, "p", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	node, err := w.upper.CoreV1().Nodes().Get(t.Context(), w.lab.LowerName(1), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses, port := node.Status.Addresses, node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if len(addresses) != 1 || addresses[0] != (corev1.NodeAddress{Type: corev1.NodeHostName, Address: "127.0.0.1"}) || port == 0 {
		t.Fatalf("addresses %v, port %d", addresses, port)
	}
	url := fmt.Sprintf("https://127.0.0.1:%d/containerLogs/%s/p/main", port, w.ns)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	ask := func(token string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		return fmt.Sprintf("%d %s", answer.StatusCode, body)
	}
	token, err := w.upper.CoreV1().ServiceAccounts(w.ns).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(""); got != "401 Unauthorized" {
		t.Errorf("anonymous: %s", got)
	}
	if got := ask("wrong"); got != "401 Unauthorized" {
		t.Errorf("a wrong token: %s", got)
	}
	who := "system:serviceaccount:" + w.ns + ":default"
	if got := ask(token.Status.Token); got != fmt.Sprintf("403 Forbidden (user=%s, verb=get, resource=nodes, subresource(s)=[proxy])\n", who) {
		t.Errorf("without a right: %s", got)
	}
	w.kubectl("create", "clusterrole", w.ns, "--verb=get", "--resource=nodes/proxy", "--resource-name="+w.lab.LowerName(1))
	w.kubectl("create", "clusterrolebinding", w.ns, "--clusterrole="+w.ns, "--serviceaccount="+w.ns+":default")
	w.eventually(func() error {
		if got := ask(token.Status.Token); got != "200 hello\n" {
			return errors.New("with the right: " + got)
		}
		return nil
	})
	below := w.get(w.lower(1), "p")
	if below.Labels[keys.VirtualNode] != w.lab.LowerName(1) {
		t.Errorf("labels below: %v", below.Labels)
	}
}
