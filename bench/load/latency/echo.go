package latency

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/bench/load/child"
)

// The echo is asked echoRate times a second with a body of echoBytes, about what a pod has.
const (
	echoRate  = 50
	echoBytes = 3000
)

// address is what the echo server prints once it listens.
type address struct {
	URL         string `json:"url"`
	Certificate []byte `json:"certificate"` // DER
}

// NewEchoCommand returns the command that runs the echo server as a process of its own.
func NewEchoCommand() *cobra.Command {
	plain := false
	command := &cobra.Command{
		Use:    "echo",
		Short:  "Answer every request with its body (run beside loads that report delays)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(command *cobra.Command, _ []string) error {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body) // All of it first: HTTP/1 reads on no more once there is an answer.
				if err == nil {
					_, _ = w.Write(body) // A caller that has gone needs no answer.
				}
			}))
			defer server.Close()
			if plain {
				server.Start()
				fmt.Fprintln(command.OutOrStdout(), server.URL)
				<-command.Context().Done() // The process is killed.
				return nil
			}
			server.StartTLS()
			line, err := json.Marshal(address{URL: server.URL, Certificate: server.Certificate().Raw})
			if err != nil {
				return fmt.Errorf("writing the address: %w", err)
			}
			fmt.Fprintln(command.OutOrStdout(), string(line))
			<-command.Context().Done() // The process is killed.
			return nil
		},
	}
	command.Flags().BoolVar(&plain, "plain", false, "without TLS; prints its URL alone")
	return command
}

// Echo is an echo server and a client of it.
type Echo struct {
	process *child.Process
	client  *http.Client
	url     string
}

// StartEcho starts the server; it ends with Stop or with ctx.
func StartEcho(ctx context.Context) (*Echo, error) {
	process, line, err := child.Start(ctx, "load", "echo")
	if err != nil {
		return nil, fmt.Errorf("starting the echo server: %w", err)
	}
	var at address
	err = json.Unmarshal([]byte(line), &at)
	if err == nil {
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(at.Certificate); err == nil {
			return &Echo{process: process, client: clientOf(certificate), url: at.URL}, nil
		}
	}
	process.Kill()
	return nil, fmt.Errorf("starting the echo server: it said %q: %w", line, err)
}

func clientOf(certificate *x509.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: echoRate}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// Server is where it answers, and a client that believes it.
func (e *Echo) Server() (client *http.Client, url string) { return e.client, e.url }

// Stop ends the server.
func (e *Echo) Stop() {
	e.client.CloseIdleConnections()
	e.process.Kill()
}

// During asks the echo at a steady rate while work runs, and returns how long each answer took from the moment the question
// was due: a machine that stalls makes all questions of that time late, not one.
func (e *Echo) During(ctx context.Context, work func() error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asked sampled
	var asking sync.WaitGroup
	asking.Go(func() { e.askSteadily(ctx, &asked) })
	err := work()
	cancel()
	asking.Wait()
	return asked.delays, errors.Join(err, asked.err)
}

// sampled collects answers.
type sampled struct {
	mu     sync.Mutex
	delays []time.Duration
	err    error
}

func (s *sampled) add(delay time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.err = err
		return
	}
	s.delays = append(s.delays, delay)
}

func (e *Echo) askSteadily(ctx context.Context, into *sampled) {
	var group sync.WaitGroup
	defer group.Wait()
	for due := time.Now(); ; due = due.Add(time.Second / echoRate) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		group.Go(func() {
			err := e.ask(ctx)
			if ctx.Err() == nil {
				into.add(time.Since(due), err)
			}
		})
	}
}

func (e *Echo) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(make([]byte, echoBytes)))
	if err != nil {
		return fmt.Errorf("asking the echo server: %w", err)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the echo server: %w", err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != echoBytes {
		return fmt.Errorf("asking the echo server: %d of %d bytes came back: %w", n, echoBytes, err)
	}
	return nil
}
