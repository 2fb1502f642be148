package admission

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
	"sync"
	"text/tabwriter"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/bench/load/latency"
)

// rate is how many reviews a second admission is asked for, and as many the echo.
const rate = 500

// The bars.
const (
	cpuBarUs  = 400.0
	echoBar   = 3.0
	warmUp    = time.Second
	connected = 64 // idle connections kept to each
)

// Result is what the load came to.
type Result struct {
	// CPUUs is processor time of admission for a review, in microseconds, the median of the rounds.
	CPUUs     float64        `json:"cpuUs"`
	P99ToEcho float64        `json:"p99ToEcho"`
	Rate      int            `json:"rate"`
	Bytes     int            `json:"bytes"` // of a review
	Latency   latency.Figure `json:"latency"`
	wrong     error
}

// Progress tells what is being done.
type Progress func(format string, args ...any)

// Measure asks for that many seconds in each round.
func Measure(ctx context.Context, out io.Writer, seconds, rounds int, progress Progress) (*Result, error) {
	l, err := lab.Start(ctx, lab.Options{Parts: []string{lab.PartAdmission}, Log: out})
	if err != nil {
		return nil, err
	}
	defer l.Stop()
	echo, err := latency.StartEcho(ctx)
	if err != nil {
		return nil, err
	}
	defer echo.Stop()
	body, err := review()
	if err != nil {
		return nil, err
	}
	url, ca := l.PartTLS(lab.PartAdmission)
	webhook, beside := &asked{url: url + "/mutate", client: clientOf(ca), body: body, check: patched}, &asked{body: body}
	beside.client, beside.url = echo.Server()
	result := &Result{Rate: rate, Bytes: len(body)}
	var both []latency.Round
	var costs []float64
	for round := range rounds {
		progress("round %d of %d", round+1, rounds)
		during(ctx, warmUp, webhook, beside)
		webhook.delays, beside.delays = nil, nil
		before := l.Process(lab.PartAdmission).CPU()
		during(ctx, time.Duration(seconds)*time.Second, webhook, beside)
		costs = append(costs, float64((l.Process(lab.PartAdmission).CPU()-before).Microseconds())/float64(max(1, len(webhook.delays))))
		both = append(both, latency.NewRound(webhook.delays, beside.delays))
	}
	result.CPUUs, result.Latency = latency.Median(costs), latency.Of(both)
	result.P99ToEcho = result.Latency.P99ToEcho
	result.wrong = errors.Join(webhook.err, beside.err)
	return result, ctx.Err()
}

// asked is a server that is asked about one body again and again.
type asked struct {
	url    string
	client *http.Client
	body   []byte
	check  func([]byte) error // of an answer; nil for none

	mu     sync.Mutex
	delays []time.Duration
	err    error // the first one
}

// during asks all of them at the rate for a while. An answer's delay counts from when its question was due.
func during(ctx context.Context, length time.Duration, all ...*asked) {
	var group sync.WaitGroup
	defer group.Wait()
	begin := time.Now()
	for due := begin; due.Sub(begin) < length && ctx.Err() == nil; due = due.Add(time.Second / rate) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
		for _, a := range all {
			group.Go(func() {
				err := a.ask(ctx)
				a.mu.Lock()
				defer a.mu.Unlock()
				if err != nil && a.err == nil {
					a.err = err
				}
				a.delays = append(a.delays, time.Since(due))
			})
		}
	}
}

func (a *asked) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(a.body))
	if err != nil {
		return fmt.Errorf("asking %s: %w", a.url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking %s: %w", a.url, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s: %s, %w", a.url, response.Status, err)
	}
	if a.check != nil {
		return a.check(answer)
	}
	return nil
}

// patched looks whether the pod was marked.
func patched(answer []byte) error {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if review.Response == nil || !review.Response.Allowed || len(review.Response.Patch) == 0 {
		return fmt.Errorf("the pod was not marked: %s", answer)
	}
	return nil
}

func clientOf(ca []byte) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: connected},
		Timeout:   10 * time.Second,
	}
}

// Check returns what is not as it has to be: every review was answered, and every pod marked.
func (r *Result) Check() error { return r.wrong }

// Print writes the figures as a table; what falls short of its bar says so.
func (r *Result) Print(out io.Writer) error {
	short := func(value, bar float64) string {
		if value > bar {
			return fmt.Sprintf("short of %g", bar)
		}
		return fmt.Sprintf("bar %g", bar)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nreviews/s\tbytes\tCPU a review\t\tp50\tp99\techo p50\tp99\tp99 to echo\t\t")
	echo50 := 0.0
	for _, round := range r.Latency.Rounds {
		echo50 += round.EchoP50Ms / float64(len(r.Latency.Rounds))
	}
	fmt.Fprintf(table, "%d\t%d\t%.0f us\t%s\t%.2f ms\t%.2f ms\t%.2f ms\t%.2f ms\t%.2f\t%s\t\n",
		r.Rate, r.Bytes, r.CPUUs, short(r.CPUUs, cpuBarUs),
		r.Latency.P50Ms, r.Latency.P99Ms, echo50, r.Latency.EchoP99Ms, r.P99ToEcho, short(r.P99ToEcho, echoBar))
	return table.Flush()
}
