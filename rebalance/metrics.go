package rebalance

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Results of a move, the values of the label result.
const (
	resultMoved       = "moved"
	resultDryRun      = "dryRun"      // Would have been moved.
	resultThrottled   = "throttled"   // The API server said 429: a disruption budget, or too many requests.
	resultChanged     = "changed"     // The pod has gone or changed since it was judged.
	resultUseless     = "useless"     // Nowhere else would take it, or its controller cannot spare it; told as a skip.
	resultAvoidFailed = "avoidFailed" // The extender could not be told, so the pod was left alone.
	resultFailed      = "failed"
)

type metrics struct {
	registry *prometheus.Registry
	moves    *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	pods     prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_rebalance_moves_total",
			Help: "Moves tried, by policy and result (moved, useless, throttled, changed, avoidFailed, failed; dryRun once a pod).",
		}, []string{"policy", "result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_rebalance_skipped_total",
			Help: "Pods that a policy wanted moved and that stay, by reason; once a pod and reason.",
		}, []string{"reason"}),
		pods: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tessera_rebalance_misplaced_pods", Help: "Pods that a policy wanted moved in the last plan.",
		}),
	}
	m.registry.MustRegister(m.moves, m.skipped, m.pods,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
