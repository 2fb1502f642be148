package latency

import (
	"fmt"
	"slices"
	"time"
)

// Round is what one round came to, in milliseconds.
type Round struct {
	Count     int     `json:"count"` // of delays
	P50Ms     float64 `json:"p50Ms"`
	P99Ms     float64 `json:"p99Ms"`
	EchoP50Ms float64 `json:"echoP50Ms"`
	EchoP99Ms float64 `json:"echoP99Ms"`
}

// NewRound sums up the delays of a round and the echo's in the same round. Their order does not matter and is changed.
func NewRound(delays, echo []time.Duration) Round {
	slices.Sort(delays)
	slices.Sort(echo)
	return Round{
		Count: len(delays), P50Ms: percentile(delays, 0.5), P99Ms: percentile(delays, 0.99),
		EchoP50Ms: percentile(echo, 0.5), EchoP99Ms: percentile(echo, 0.99),
	}
}

// Figure is the median over rounds, of each number by itself.
type Figure struct {
	P50Ms     float64 `json:"p50Ms"`
	P99Ms     float64 `json:"p99Ms"`
	EchoP99Ms float64 `json:"echoP99Ms"`
	// P99ToEcho and P99BeyondEchoMs are the ratio to the echo's p99 and the difference from it, taken round by round.
	P99ToEcho       float64 `json:"p99ToEcho"`
	P99BeyondEchoMs float64 `json:"p99BeyondEchoMs"`
	Rounds          []Round `json:"rounds"`
}

// Of sums up rounds; no rounds make a zero figure.
func Of(rounds []Round) Figure {
	median := func(of func(Round) float64) float64 {
		var all []float64
		for _, r := range rounds {
			all = append(all, of(r))
		}
		return Median(all)
	}
	return Figure{
		P50Ms:     median(func(r Round) float64 { return r.P50Ms }),
		P99Ms:     median(func(r Round) float64 { return r.P99Ms }),
		EchoP99Ms: median(func(r Round) float64 { return r.EchoP99Ms }),
		P99ToEcho: median(func(r Round) float64 {
			if r.EchoP99Ms == 0 {
				return 0
			}
			return r.P99Ms / r.EchoP99Ms
		}),
		P99BeyondEchoMs: median(func(r Round) float64 { return r.P99Ms - r.EchoP99Ms }),
		Rounds:          rounds,
	}
}

// String is such as "p50 12.3 ms, p99 45.6 ms; echo 1.2 ms, 44.4 ms beyond it (median of 3 rounds)".
func (f Figure) String() string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms; echo %.1f ms, %.1f ms beyond it (median of %d rounds)",
		f.P50Ms, f.P99Ms, f.EchoP99Ms, f.P99BeyondEchoMs, len(f.Rounds))
}

// Median of an odd number of values is the middle one, of an even number the mean of the two in the middle; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// percentile is the smallest value that a share of the sorted values does not exceed, in milliseconds; 0 of none.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(len(sorted)-1, int(share*float64(len(sorted))))
	return float64(sorted[at].Microseconds()) / 1000
}
