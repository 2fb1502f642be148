package hints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// A pod without a hint may take room that is held for another, so an extender that does not know yet (it has just started)
// is waited for up to Longest, and one that does not answer for up to Patience; it is asked at least Attempts
// times, as a process that was stopped for a while has not waited. Once an extender has tried the patience, it is taken for
// dead until it answers again, and pods are created without a hint rather than late. A dead extender lets no new pods come,
// so that few are ever late.
const (
	Patience = 12 * time.Second
	Longest  = 2 * time.Minute
	Attempts = 5
)

// Times of a question.
const (
	askTimeout = time.Second
	askAgain   = 200 * time.Millisecond
)

// Hints asks the extender on which lower node it holds room for a pod. A nil *Hints knows of none.
type Hints struct {
	url    string
	client *http.Client
	dead   atomic.Bool // the last pod waited in vain
	modes  modes
	now    func() time.Time
}

// Extender says how the extender is reached and what it is asked for.
type Extender struct {
	URL, CAFile, TokenFile string
	// Mode returns the configured mode of a cluster.
	Mode func(cluster string) Mode
	// Now is time.Now where it is nil.
	Now func() time.Time
}

// Giver asks for the hints of the pods of one cluster and gives them.
type Giver struct {
	Cluster string
	// Hints may be nil: nobody is asked then.
	Hints *Hints
	Lower corev1client.CoreV1Interface
	// Count is told what becomes of every hint.
	Count func(mode Mode, result string)
	Log   *slog.Logger
}

// New returns nil where there is no URL.
func New(extender Extender) (*Hints, error) {
	if extender.URL == "" {
		return nil, nil
	}
	client, err := rest.HTTPClientFor(&rest.Config{
		Host:            extender.URL,
		BearerTokenFile: extender.TokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: extender.CAFile},
		Timeout:         askTimeout,
		UserAgent:       "tessera-virtualnode",
	})
	if err != nil {
		return nil, fmt.Errorf("building client of the extender: %w", err)
	}
	if extender.Now == nil {
		extender.Now = time.Now
	}
	return &Hints{
		url: strings.TrimSuffix(extender.URL, "/"), client: client,
		modes: modes{configured: extender.Mode, retry: map[string]time.Time{}},
		now:   extender.Now,
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

// Asking is how often and since when the extender was asked in vain for a pod, and when it last answered at all.
type Asking struct {
	Since, Heard time.Time
	Times        int
}

// enough reports whether a pod has waited long enough.
func (a Asking) enough(now time.Time) bool {
	silent := now.Sub(a.Since)
	if a.Heard.After(a.Since) {
		silent = now.Sub(a.Heard)
	}
	return a.Times >= Attempts && (silent >= Patience || now.Sub(a.Since) >= Longest)
}

// errUnsure is an extender that answers and does not know yet.
var errUnsure = errors.New("asking for the hold: the extender is not ready")

// Ask returns the hint for a pod, "" if it goes without. again > 0: there is no answer yet, to be asked for after that time.
func (g Giver) Ask(ctx context.Context, upper *corev1.Pod, asking *Asking) (node string, again time.Duration) {
	if g.Hints == nil {
		return "", 0
	}
	mode := g.Hints.modes.of(g.Cluster, g.Hints.now())
	if mode == Off {
		return "", 0
	}
	node, err := g.Hints.question(ctx, g.Cluster, upper.UID)
	if err == nil {
		g.Hints.dead.Store(false)
		*asking = Asking{}
		if node == "" {
			g.Count(mode, "none")
		}
		return node, 0
	}
	if bound := upper.Annotations[keys.HintNode]; bound != "" {
		return bound, 0 // Strict mode has written the hint into the pod together with its bind.
	}
	now := time.Now()
	if asking.Since.IsZero() {
		asking.Since = now
	}
	asking.Times++
	if errors.Is(err, errUnsure) {
		asking.Heard = now
		g.Hints.dead.Store(false)
	}
	if !g.Hints.dead.Load() && !asking.enough(now) {
		return "", askAgain
	}
	g.Hints.dead.Store(true)
	*asking = Asking{}
	g.Count(mode, "failed")
	g.Log.Warn("No hint, the pod goes below without", "pod", pair.KeyOf(upper), "err", err)
	return "", 0
}
