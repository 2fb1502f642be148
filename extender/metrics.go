package extender

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// metrics are the figures under /metrics.
type metrics struct {
	registry    *prometheus.Registry
	duration    *prometheus.HistogramVec
	exact       *prometheus.HistogramVec
	verdicts    *prometheus.CounterVec
	overpromise *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	unasked     *prometheus.CounterVec
	wrongGuess  prometheus.Counter
	wakes       prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tessera_extender_request_duration_seconds", Help: "Time to answer kube-scheduler, by verb.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
		}, []string{"verb"}),
		exact: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tessera_extender_exact_duration_seconds", Help: "Time to ask kube-scheduler's own plugins about a pod with claims, by cluster.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}, []string{"cluster"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_extender_verdicts_total", Help: "Judgements on a cluster for a pod; reason is empty where it fits.",
		}, []string{"cluster", "reason"}),
		overpromise: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_overpromise_total", Help: "Accepted pods that the lower scheduler found no node for.",
		}, []string{"cluster"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_extender_node_refusals_total", Help: "Pods that the kubelet of their lower node did not let in.",
		}, []string{"cluster"}),
		unasked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_extender_unasked_binds_total",
			Help: "Pods bound to a virtual node that the extender was not asked about; kind says whether they carry the marker.",
		}, []string{"cluster", "kind"}),
		wrongGuess: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tessera_extender_wrong_guesses_total", Help: "Pods bound to another cluster than their room was held in.",
		}),
		wakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tessera_extender_wakes_total", Help: "Waiting pods that the scheduler was made to try again.",
		}),
	}
	m.registry.MustRegister(m.duration, m.exact, m.verdicts, m.overpromise, m.refusals, m.unasked, m.wrongGuess, m.wakes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) verdict(v verdict) {
	m.verdicts.WithLabelValues(v.Cluster, string(v.Reason)).Inc()
}

// watch adds the figures that are read off the state when asked for.
func (m *metrics) watch(e *Extender) {
	for _, state := range []snapshot.State{snapshot.Offered, snapshot.Chosen, snapshot.Bound, snapshot.Mirrored, snapshot.Reserved} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tessera_holds", Help: "Holds, by state.", ConstLabels: prometheus.Labels{"state": string(state)},
		}, func() float64 { return e.countHolds(state) }))
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tessera_extender_waiting_pods", Help: "Pods that no virtual node took when last asked about.",
	}, func() float64 {
		e.mu.Lock()
		defer e.mu.Unlock()
		return float64(len(e.waiting))
	}))
}

func (e *Extender) countHolds(state snapshot.State) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	count := 0
	for _, hold := range e.pool.Holds() {
		if hold.State == state {
			count++
		}
	}
	return float64(count)
}
