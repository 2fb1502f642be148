package virtualnode

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tessera-k8s/tessera/virtualnode/events"
	"github.com/tessera-k8s/tessera/virtualnode/kubelet"
	"github.com/tessera-k8s/tessera/virtualnode/pods"
)

// metrics are the figures under /metrics.
type metrics struct {
	registry   *prometheus.Registry
	pods       *pods.Metrics
	events     *events.Metrics
	kubelet    *kubelet.Metrics
	nodeWrites *prometheus.CounterVec
	tokenEnds  *prometheus.GaugeVec
}

// newMetrics registers the figures; leads reports whether this replica serves the virtual nodes.
func newMetrics(leads func() bool) *metrics {
	registry := prometheus.NewRegistry()
	m := &metrics{
		registry: registry, pods: pods.NewMetrics(registry), events: events.NewMetrics(registry),
		kubelet: kubelet.NewMetrics(registry),
		nodeWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_virtualnode_node_changes_total", Help: "Changes of the virtual node's status handed on for writing.",
		}, []string{"cluster"}),
		tokenEnds: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tessera_virtualnode_token_end_timestamp_seconds",
			Help: "When the token of a lower cluster's kubeconfig ends, in seconds since 1970; none where it does not say.",
		}, []string{"cluster"}),
	}
	registry.MustRegister(m.nodeWrites, m.tokenEnds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tessera_virtualnode_leader", Help: "1 on the replica that serves the virtual nodes, 0 on those that wait for their turn.",
		}, func() float64 {
			if leads() {
				return 1
			}
			return 0
		}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
