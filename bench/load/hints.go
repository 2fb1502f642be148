package load

import (
	"context"
	"fmt"
	"time"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// HintModes are the ways to tell a lower scheduler where room is held.
var HintModes = []string{"nominated", "preferred", "required", "off"}

// HintResult is what the bursts with one mode came to, over all rounds.
type HintResult struct {
	Mode string `json:"mode"`
	Outcome
	Rounds int `json:"rounds"`
}

// Hints plays the burst in each mode, round after round in turn, so that what the machine does meanwhile meets all of them.
func Hints(ctx context.Context, l *lab.Lab, burst Burst, rounds int, progress func(format string, args ...any)) ([]HintResult, error) {
	results := make([]HintResult, len(HintModes))
	for round := range rounds {
		for i, mode := range HintModes {
			if err := SetHint(ctx, l, mode); err != nil {
				return nil, err
			}
			outcome, err := burst.Run(ctx, l, Round{
				Namespace: fmt.Sprintf("%s-%d", mode, round), Order: uint64(round), Patience: 10 * time.Second,
			})
			if err != nil {
				return nil, fmt.Errorf("hint %s, round %d: %w", mode, round+1, err)
			}
			progress("hint %s, round %d: %d of %d run after %.1f s, %d over-promised",
				mode, round+1, outcome.Running, outcome.Pods, outcome.Seconds, outcome.OverPromised)
			results[i].Mode = mode
			results[i].add(outcome)
		}
	}
	return results, nil
}

func (r *HintResult) add(o Outcome) {
	r.Rounds++
	r.Pods += o.Pods
	r.Running += o.Running
	r.OverPromised += o.OverPromised
	r.Holds += o.Holds
	r.Seconds += o.Seconds
	r.PodsPerSecond = float64(r.Running) / r.Seconds
}

// SetHint restarts virtualnode with another hint mode for all clusters.
func SetHint(ctx context.Context, l *lab.Lab, mode string) error {
	return l.Reconfigure(ctx, lab.PartVirtualNode, map[string]any{"hint": mode})
}
