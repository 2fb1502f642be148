package kubelet

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the figures of the kubelet API of all virtual nodes.
type Metrics struct {
	requests *prometheus.CounterVec
	streams  *prometheus.GaugeVec
}

// NewMetrics registers the figures.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_virtualnode_kubelet_requests_total",
			Help: "Requests to the kubelet API of a virtual node that have ended, by what was asked and the code of the answer.",
		}, []string{"cluster", "kind", "code"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tessera_virtualnode_kubelet_streams", Help: "Requests for logs, exec, attach and port-forward that go on.",
		}, []string{"cluster", "kind"}),
	}
	registry.MustRegister(m.requests, m.streams)
	return m
}
