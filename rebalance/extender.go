package rebalance

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/ask"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// extender has clusters avoided.
type extender struct {
	*ask.Extender
	avoidFor time.Duration
}

// avoidTimeout bounds one call: a plan has few moves, and none is urgent.
const avoidTimeout = 3 * time.Second

func newExtender(config *Config) *extender {
	return &extender{avoidFor: config.AvoidFor.Duration, Extender: &ask.Extender{Daemon: &ask.Daemon{
		Name: "extender", URL: config.Extender, CAFile: config.ExtenderCAFile, TokenFile: config.ExtenderTokenFile,
		Timeout: avoidTimeout, UserAgent: "tessera-rebalance",
	}}}
}

// avoid has the owner of the pod avoid its cluster from now on. It may block for avoidTimeout.
func (e *extender) avoid(ctx context.Context, move Move) error {
	return e.Avoid(ctx, wire.AvoidRequest{
		Owner: &move.Owner, Cluster: move.Cluster, Seconds: int(e.avoidFor.Seconds()), Reason: move.Policy,
	})
}

// others implements avoider.
func (e *extender) others(ctx context.Context, move Move, pod *corev1.Pod) ([]string, error) {
	text, err := json.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("asking where a pod would go: %w", err)
	}
	answer, err := e.Whatif(ctx, text, 1)
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, c := range answer.Value.Clusters {
		if c.Fits && c.VirtualNode != move.Cluster {
			nodes = append(nodes, c.VirtualNode)
		}
	}
	return nodes, nil
}
