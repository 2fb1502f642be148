package virtualnode

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// A pod without a hint may take room that is held for another, so a busy or restarting extender is waited for: a
// question may take hintTimeout, and is asked again for up to hintPatience. Once an extender has tried the patience,
// it is taken for dead until it answers again, and pods are created without a hint rather than late.
const (
	hintTimeout  = time.Second
	hintPatience = 5 * time.Second
	hintAgain    = 200 * time.Millisecond
)

// hints asks the extender on which lower node it holds room for a pod. A nil *hints knows of none.
type hints struct {
	url    string
	client *http.Client
	dead   atomic.Bool // the last pod waited in vain
}

// newHints returns nil where the configuration asks for no hints.
func newHints(config *Config) (*hints, error) {
	if config.Extender == "" || config.Hint == hintOff {
		return nil, nil
	}
	client, err := rest.HTTPClientFor(&rest.Config{
		Host:            config.Extender,
		BearerTokenFile: config.ExtenderTokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: config.ExtenderCAFile},
		Timeout:         hintTimeout,
		UserAgent:       "tessera-virtualnode",
	})
	if err != nil {
		return nil, fmt.Errorf("building client of the extender: %w", err)
	}
	return &hints{url: strings.TrimSuffix(config.Extender, "/"), client: client}, nil
}

// node returns the lower node in cluster that room is held on for the pod; "" where there is no such hold.
func (h *hints) node(ctx context.Context, cluster string, uid types.UID) (string, error) {
	patience := hintPatience
	if h.dead.Load() {
		patience = 0
	}
	started := time.Now()
	for {
		node, err := h.question(ctx, cluster, uid)
		waited := time.Since(started) >= patience
		if err == nil || waited {
			h.dead.Store(err != nil)
			return node, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(hintAgain):
		}
	}
}

// question asks once.
func (h *hints) question(ctx context.Context, cluster string, uid types.UID) (string, error) {
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

// ask returns the hint for a pod. No answer is an answer: the pod goes without.
func (r *reconciler) ask(ctx context.Context, upper *corev1.Pod) string {
	if r.hints == nil {
		return ""
	}
	node, err := r.hints.node(ctx, r.name, upper.UID)
	switch {
	case err != nil:
		r.metrics.hint(r.name, "failed")
		r.log.Warn("No hint, the pod goes below without", "pod", keyOf(upper), "err", err)
	case node == "":
		r.metrics.hint(r.name, "none")
	default:
		r.metrics.hint(r.name, "given")
	}
	return node
}

// ungate takes our gate off and leaves those of others.
var ungate = []byte(`{"spec":{"schedulingGates":[{"$patch":"delete","name":"` + keys.HintGate + `"}]}}`)

// giveHint tells the lower scheduler the node and lets the pod go. The scheduler tries the nominated node first and
// takes it if the pod fits, whatever its preferences say; else it goes on as usual.
//
// An interruption between the two calls leaves a gated pod, which tend takes up again.
func (r *reconciler) giveHint(ctx context.Context, upper, lower *corev1.Pod, node string, memory *memory) error {
	pods := r.lower.Pods(lower.Namespace)
	if node != "" {
		patch := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"nominatedNodeName":%q}}`, lower.UID, node)
		_, err := pods.Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			r.log.Warn("The lower cluster takes no hint, the pod goes without", "pod", keyOf(upper), "err", err)
		} else if err != nil {
			return gone(fmt.Errorf("nominating node: %w", err))
		}
	}
	if _, err := pods.Patch(ctx, lower.Name, types.StrategicMergePatchType, ungate, metav1.PatchOptions{}); err != nil {
		return gone(fmt.Errorf("taking the gate off: %w", err))
	}
	memory.ungated = lower.UID
	return nil
}

// gone drops the error of a pod that has gone or been replaced meanwhile: its event brings us back.
func gone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
