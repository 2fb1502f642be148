package events

import "github.com/prometheus/client_golang/prometheus"

// What becomes of an event about a pod of ours.
const (
	written = "written" // it is shown above now
	counted = "counted" // it was shown already; how often and when it happened is up to date
	dropped = "dropped" // there are too many of them
	failed  = "failed"  // the upper cluster does not take it
)

// Metrics are the figures of the events of all virtual nodes.
type Metrics struct{ events *prometheus.CounterVec }

// NewMetrics returns the figures, registered.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{events: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tessera_virtualnode_events_total",
		Help: "Events of lower clusters about pods of ours: written (shown above), counted (shown already, now with its new count), " +
			"dropped (too many) or failed (the upper cluster does not take it).",
	}, []string{"cluster", "result"})}
	registry.MustRegister(m.events)
	return m
}
