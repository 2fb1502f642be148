package streams

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// How much goes each way in a pass. A kubelet hands logs on line by line: with long lines it is not all that is measured.
const (
	lineBytes = 1 << 10
	logLines  = 50 << 10
	copyBytes = 64 << 20
	echoes    = 200
	warming   = 10 // echoes before those that count
)

// flowWithin bounds what goes one way.
const flowWithin = 2 * time.Minute

// flow is a kind of stream that goes one way in a pass.
type flow func(ctx context.Context, w way, pass int, into *Speeds) error

// readLogs reads all that the container has printed.
func (s *site) readLogs(ctx context.Context, w way, pass int, into *Speeds) error {
	begun := time.Now()
	stream, err := w.client.CoreV1().Pods(space).GetLogs(w.pod, &corev1.PodLogOptions{Container: containerLog}).Stream(ctx)
	if err != nil {
		return fmt.Errorf("reading logs: %w", err)
	}
	defer stream.Close()
	came, err := read(stream)
	if err != nil {
		return fmt.Errorf("reading logs: after %d bytes: %w", came.bytes, err)
	}
	into.LogsBytesPerSecond = rate(came.bytes, time.Since(begun))
	s.judge("logs", w, pass, s.logs.lacks(came))
	return nil
}

// copyFile copies a file into the pod and out again, as kubectl cp does.
func (s *site) copyFile(ctx context.Context, w way, pass int, into *Speeds) error {
	copy(s.data, fmt.Sprintf("%-40s", fmt.Sprintf("pass %d %s", pass+1, w.name))) // What another way has left there is not this.
	archive, err := pack(s.data)
	if err != nil {
		return err
	}
	in, err := w.exec(ctx, bytes.NewReader(archive), io.Discard, "tar", "-xmf", "-", "-C", folder)
	if err != nil {
		return fmt.Errorf("copying in: %w", err)
	}
	back := bytes.NewBuffer(make([]byte, 0, len(archive)))
	out, err := w.exec(ctx, nil, back, "tar", "cf", "-", folder+"/"+fileName)
	if err != nil {
		return fmt.Errorf("copying out: %w", err)
	}
	into.CopyInBytesPerSecond, into.CopyOutBytesPerSecond = rate(copyBytes, in), rate(copyBytes, out)
	into.CopyBytesPerSecond = rate(2*copyBytes, in+out)
	want, err := read(bytes.NewReader(s.data))
	if err != nil {
		return err
	}
	s.judge("cp", w, pass, want.lacks(unpacked(back.Bytes())))
	return nil
}

// talk types lines to a program that says them again, each when the one before has come back.
func (s *site) talk(ctx context.Context, w way, pass int, into *Speeds) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, typed := io.Pipe()
	heard, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := w.exec(ctx, stdin, stdout, "/payload", "echo")
		_ = stdin.CloseWithError(io.ErrClosedPipe)
		_ = stdout.Close()
		ended <- err
	}()
	var took []float64
	said := bufio.NewReader(heard)
	for i := range warming + echoes {
		line := fmt.Sprintf("message %d\n", i)
		begun := time.Now()
		if _, err := io.WriteString(typed, line); err != nil {
			return fmt.Errorf("echo %d: %w", i, errors.Join(err, <-ended))
		}
		answer, err := said.ReadString('\n')
		if err != nil {
			return fmt.Errorf("echo %d: %q: %w", i, answer, errors.Join(err, <-ended))
		}
		if answer != line {
			s.judge("echo", w, pass, fmt.Sprintf("%q came for %q", answer, line))
		}
		if i >= warming {
			took = append(took, float64(time.Since(begun).Microseconds())/1000)
		}
	}
	into.EchoMs = latency.Median(took)
	_ = typed.Close()
	if rest, _ := io.ReadAll(said); len(rest) > 0 {
		s.judge("echo", w, pass, fmt.Sprintf("%d bytes came unasked", len(rest)))
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}

// exec runs a command in the pod and says how long that took.
func (w way) exec(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) (time.Duration, error) {
	request := w.client.CoreV1().RESTClient().Post().Namespace(space).Resource("pods").Name(w.pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: containerMain, Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	begun := time.Now()
	executor, err := remotecommand.NewWebSocketExecutor(w.config, http.MethodGet, request.URL().String())
	if err != nil {
		return 0, fmt.Errorf("building an executor: %w", err)
	}
	var complaint strings.Builder
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: &complaint})
	if err != nil {
		return 0, fmt.Errorf("running %s: %w: %s", command[0], err, strings.TrimSpace(complaint.String()))
	}
	return time.Since(begun), nil
}

// judge notes what is wrong.
func (s *site) judge(what string, w way, pass int, wrong string) {
	if wrong != "" {
		s.wrong = append(s.wrong, fmt.Sprintf("%s, %s, pass %d: %s", what, w.name, pass+1, wrong))
	}
}

func rate(bytes int64, took time.Duration) float64 { return float64(bytes) / took.Seconds() }
