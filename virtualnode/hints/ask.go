package hints

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/wire"
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

// AskTimeout bounds one question; what has no answer yet is asked again after askAgain.
const (
	AskTimeout = time.Second
	askAgain   = 200 * time.Millisecond
)

// Hints asks the extender on which lower node it holds room for a pod. A nil *Hints knows of none.
type Hints struct {
	extender Holder
	dead     atomic.Bool // the last pod waited in vain
	modes    modes
	now      func() time.Time
}

// Holder is the extender, as far as hints need it.
type Holder interface {
	// Hold asks once for the hold of an upper pod; nil where there is none. It may block for AskTimeout.
	Hold(ctx context.Context, uid types.UID) (*wire.Hold, error)
}

var _ Holder = (*ask.Extender)(nil)

// New returns hints of an extender, which is asked in the mode that is configured for a cluster. now is time.Now.
func New(extender Holder, mode func(cluster string) Mode, now func() time.Time) *Hints {
	return &Hints{extender: extender, now: now, modes: modes{configured: mode, retry: map[string]time.Time{}}}
}

// Giver asks for the hints of the pods of one cluster and gives them.
type Giver struct {
	Cluster string
	// Hints may be nil: nobody is asked then.
	Hints *Hints
	Lower corev1client.CoreV1Interface
	// Known reports that the lower API server is no newer than this program, so that a pod which it answers loses no field here.
	Known bool
	// Count is told what becomes of every hint.
	Count func(mode Mode, result string)
	Log   *slog.Logger
}

// question asks once for the lower node in cluster that room is held on for the pod; "" where there is no such hold.
func (h *Hints) question(ctx context.Context, cluster string, uid types.UID) (string, error) {
	hold, err := h.extender.Hold(ctx, uid)
	switch {
	case err != nil:
		return "", fmt.Errorf("asking for the hold: %w", err)
	case hold == nil:
		return "", nil
	case hold.Cluster != cluster:
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
	if ask.Refused(err) == http.StatusServiceUnavailable { // It answers, and does not know yet.
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
