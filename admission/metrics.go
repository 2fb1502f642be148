package admission

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tessera-k8s/tessera/admission/certificate"
)

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(served certificate.Get) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tessera_admission_requests_total",
			Help: "Webhook calls by path (mutate, keep-off) and result (patched, unchanged, denied, malformed, tooLarge).",
		}, []string{"path", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tessera_admission_duration_seconds",
			Help:    "Time from the first byte of a webhook call to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}, []string{"path"}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tessera_admission_certificate_expiry_seconds",
		Help: "How long the serving certificate is still good for. It is renewed when a third of its life is left.",
	}, func() float64 { return certificate.Left(time.Now(), served).Seconds() })
	m.registry.MustRegister(m.requests, m.duration, expiry, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
