package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// A pod without a hint may take room that is held for another, so an extender that does not know yet (it has just started)
// is waited for up to hintLongest, and one that does not answer for up to hintPatience; it is asked at least hintAttempts
// times, as a process that was stopped for a while has not waited. Once an extender has tried the patience, it is taken for
// dead until it answers again, and pods are created without a hint rather than late. A dead extender lets no new pods come,
// so that few are ever late.
const (
	hintTimeout  = time.Second
	hintPatience = 12 * time.Second
	hintLongest  = 2 * time.Minute
	hintAttempts = 5
	hintAgain    = 200 * time.Millisecond
)

// Hints asks the extender on which lower node it holds room for a pod. A nil *Hints knows of none.
type Hints struct {
	url    string
	client *http.Client
	dead   atomic.Bool // the last pod waited in vain
	modes  modes
}

// Extender says how the extender is reached and what it is asked for.
type Extender struct {
	URL, CAFile, TokenFile string
	// Mode returns the configured mode of a cluster.
	Mode func(cluster string) HintMode
}

// NewHints returns nil where there is no URL.
func NewHints(extender Extender) (*Hints, error) {
	if extender.URL == "" {
		return nil, nil
	}
	client, err := rest.HTTPClientFor(&rest.Config{
		Host:            extender.URL,
		BearerTokenFile: extender.TokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: extender.CAFile},
		Timeout:         hintTimeout,
		UserAgent:       "tessera-virtualnode",
	})
	if err != nil {
		return nil, fmt.Errorf("building client of the extender: %w", err)
	}
	return &Hints{
		url: strings.TrimSuffix(extender.URL, "/"), client: client,
		modes: modes{configured: extender.Mode, retry: map[string]time.Time{}},
	}, nil
}

// question asks once for the lower node in cluster that room is held on for the pod; "" where there is no such hold.
func (h *Hints) question(ctx context.Context, cluster string, uid types.UID) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/v1/holds/"+string(uid), nil)
	if err != nil {
		return "", fmt.Errorf("asking for the hold: %w", err)
	}
	answer, err := h.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking for the hold: %w", err)
	}
	defer func() {
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)) // Read to its end, a connection can be used again.
		_ = answer.Body.Close()
	}()
	switch answer.StatusCode {
	case http.StatusNotFound:
		return "", nil
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return "", errUnsure
	default:
		return "", fmt.Errorf("asking for the hold: the extender answered %s", answer.Status)
	}
	var hold struct{ Cluster, Node string }
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&hold); err != nil {
		return "", fmt.Errorf("reading the hold: %w", err)
	}
	if hold.Cluster != cluster {
		return "", nil // Held elsewhere: the scheduler chose another node than the extender thought.
	}
	return hold.Node, nil
}

// asking is how often and since when the extender was asked in vain for a pod, and when it last answered at all.
type asking struct {
	since, heard time.Time
	times        int
}

// enough reports whether a pod has waited long enough.
func (a asking) enough(now time.Time) bool {
	silent := now.Sub(a.since)
	if a.heard.After(a.since) {
		silent = now.Sub(a.heard)
	}
	return a.times >= hintAttempts && (silent >= hintPatience || now.Sub(a.since) >= hintLongest)
}

// errUnsure is an extender that answers and does not know yet.
var errUnsure = errors.New("asking for the hold: the extender is not ready")

// ask returns the hint for a pod, "" if it goes without. again > 0: there is no answer yet, to be asked for after that time.
func (r *Reconciler) ask(ctx context.Context, upper *corev1.Pod, memory *memory) (node string, again time.Duration) {
	if r.Hints == nil {
		return "", 0
	}
	mode := r.Hints.modes.of(r.Name, time.Now())
	if mode == HintOff {
		return "", 0
	}
	node, err := r.Hints.question(ctx, r.Name, upper.UID)
	if err == nil {
		r.Hints.dead.Store(false)
		memory.asking = asking{}
		if node == "" {
			r.Metrics.hint(r.Name, mode, "none")
		}
		return node, 0
	}
	if bound := upper.Annotations[keys.HintNode]; bound != "" {
		return bound, 0 // Strict mode has written the hint into the pod together with its bind.
	}
	now := time.Now()
	if memory.asking.since.IsZero() {
		memory.asking.since = now
	}
	memory.asking.times++
	if errors.Is(err, errUnsure) {
		memory.asking.heard = now
		r.Hints.dead.Store(false)
	}
	if !r.Hints.dead.Load() && !memory.asking.enough(now) {
		return "", hintAgain
	}
	r.Hints.dead.Store(true)
	memory.asking = asking{}
	r.Metrics.hint(r.Name, mode, "failed")
	r.Log.Warn("No hint, the pod goes below without", "pod", KeyOf(upper), "err", err)
	return "", 0
}
