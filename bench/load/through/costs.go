package through

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
)

// costs are counts that only grow: what a run costs is the difference of two.
type costs struct {
	// cpu is processor time by process.
	cpu map[string]time.Duration
	// calls are accepted requests, such as "upper PATCH pods/status", as the API servers count them.
	calls map[string]float64
}

// costs reads all counts of this moment.
func (s *site) costs(ctx context.Context) (costs, error) {
	now := costs{cpu: map[string]time.Duration{}, calls: map[string]float64{}}
	for _, status := range s.lab.Status() {
		if process := s.lab.Process(status.Name); process != nil && !process.Exited() {
			now.cpu[status.Name] = process.CPU()
		}
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return now, fmt.Errorf("reading processor time: %w", err)
	}
	now.cpu["bench"] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for side, c := range map[string]kubernetes.Interface{"upper": s.upper, "lower": s.lower} {
		text, err := c.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		if err != nil {
			return now, fmt.Errorf("reading the metrics of the %s API server: %w", side, err)
		}
		count(now.calls, side, text)
	}
	return now, nil
}

// count adds up the accepted requests for pods and events, but for watches, in the text of an API server's metrics.
func count(into map[string]float64, side string, text []byte) {
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		rest, ok := strings.CutPrefix(scanner.Text(), "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		label := map[string]string{}
		for pair := range strings.SplitSeq(labels, ",") { // No value has a comma in it.
			key, quoted, _ := strings.Cut(pair, "=")
			label[key] = strings.Trim(quoted, `"`)
		}
		resource := label["resource"]
		if !slices.Contains([]string{"pods", "events"}, resource) || !strings.HasPrefix(label["code"], "2") ||
			label["verb"] == "WATCH" {
			continue
		}
		if label["subresource"] != "" {
			resource += "/" + label["subresource"]
		}
		n, _ := strconv.ParseFloat(value, 64)
		into[side+" "+label["verb"]+" "+resource] += n
	}
}

// since returns what was spent since then: milliseconds of processor time and calls, both for each of n pods.
func (c costs) since(before costs, n int) (cpu, calls map[string]float64) {
	cpu, calls = map[string]float64{}, map[string]float64{}
	for name, now := range c.cpu {
		cpu[name] = float64((now - before.cpu[name]).Microseconds()) / 1000 / float64(n)
	}
	for name, now := range c.calls {
		if more := now - before.calls[name]; more > 0 {
			calls[name] = more / float64(n)
		}
	}
	return cpu, calls
}
