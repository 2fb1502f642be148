package pods

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tessera-k8s/tessera/virtualnode/hints"
)

// Metrics are the figures of the pods of all virtual nodes.
type Metrics struct {
	creates  *prometheus.CounterVec
	duration prometheus.Histogram
	hints    *prometheus.CounterVec
	statuses *prometheus.CounterVec
	orphans  *prometheus.GaugeVec
	brake    *prometheus.GaugeVec
}

// NewMetrics returns the figures, registered.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_virtualnode_create_total",
			Help: "Attempts to create a pod below: created, adopted (an orphan was taken over), " +
				"failed (tried again) or why it was refused.",
		}, []string{"cluster", "result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tessera_virtualnode_create_duration_seconds", Help: "Time from the first look at a bound pod until it exists below.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		hints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_virtualnode_hints_total",
			Help: "Hints for pods, by the mode of telling them: given, none (no room is held), " +
				"failed (the extender did not answer) or refused (the lower cluster did not take it that way).",
		}, []string{"cluster", "mode", "result"}),
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_virtualnode_status_total", Help: "Writes of a pod's status to the upper cluster: written or failed.",
		}, []string{"cluster", "result"}),
		orphans: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tessera_virtualnode_orphans", Help: "Lower pods whose upper pod is not there, without its deletion having been seen.",
		}, []string{"cluster"}),
		brake: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tessera_virtualnode_orphan_brake", Help: "1 while there are so many orphans that none is collected.",
		}, []string{"cluster"}),
	}
	registry.MustRegister(m.creates, m.duration, m.hints, m.statuses, m.orphans, m.brake)
	return m
}

// created counts an attempt to create a pod below; took matters for those that came through.
func (m *Metrics) created(cluster, result string, took time.Duration) {
	m.creates.WithLabelValues(cluster, result).Inc()
	if result == "created" {
		m.duration.Observe(took.Seconds())
	}
}

func (m *Metrics) hint(cluster string, mode hints.Mode, result string) {
	m.hints.WithLabelValues(cluster, string(mode), result).Inc()
}

func (m *Metrics) status(cluster string, err error) {
	result := "written"
	if err != nil {
		result = "failed"
	}
	m.statuses.WithLabelValues(cluster, result).Inc()
}

func (m *Metrics) orphaned(cluster string, count int, brake bool) {
	m.orphans.WithLabelValues(cluster).Set(float64(count))
	on := 0.0
	if brake {
		on = 1
	}
	m.brake.WithLabelValues(cluster).Set(on)
}
