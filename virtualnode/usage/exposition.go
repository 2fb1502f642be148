package usage

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Handlers answer as a kubelet does, by path.
func (r *Reader) Handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/metrics":          r.exposition(r.kubelet),
		"/metrics/cadvisor": r.exposition(r.cadvisor),
		"/metrics/probes":   r.exposition(func(Picture, func(prometheus.Metric)) {}), // Kubelets below probe.
		"/metrics/resource": r.exposition(r.resource),
		"/stats/summary":    http.HandlerFunc(r.summary),
	}
}

// gather is a collector of the metrics of one request.
type gather func(add func(prometheus.Metric))

// Describe implements prometheus.Collector: what there is depends on the pods.
func (gather) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (g gather) Collect(all chan<- prometheus.Metric) { g(func(m prometheus.Metric) { all <- m }) }

// exposition answers with metrics in Prometheus' format.
func (r *Reader) exposition(write func(p Picture, add func(prometheus.Metric))) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		picture := r.Picture(request.Context())
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(gather(func(add func(prometheus.Metric)) { write(picture, add) }))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, request)
	})
}

// Descriptions of metrics, which have the names that a kubelet's have (k8s.io/kubernetes/pkg/kubelet/metrics/collectors, cAdvisor).
var (
	nodeCPU    = describe("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pods of the virtual node in core-seconds")
	nodeMemory = describe("node_memory_working_set_bytes", "Current working set of the pods of the virtual node in bytes")

	podCPU    = describe("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "namespace", "pod")
	podMemory = describe("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "namespace", "pod")

	containerCPU = describe("container_cpu_usage_seconds_total",
		"Cumulative cpu time consumed by the container in core-seconds", "namespace", "pod", "container")
	containerMemory = describe("container_memory_working_set_bytes",
		"Current working set of the container in bytes", "namespace", "pod", "container")
	containerStart = describe("container_start_time_seconds",
		"Start time of the container's counter since unix epoch in seconds", "namespace", "pod", "container")

	cadvisorCPU = describe("container_cpu_usage_seconds_total",
		"Cumulative cpu time consumed in seconds", "namespace", "pod", "container", "image", "cpu")
	cadvisorMemory = describe("container_memory_working_set_bytes", "Current working set in bytes", "namespace", "pod", "container", "image")
	cadvisorStart  = describe("container_start_time_seconds",
		"Start time of the container's counter since unix epoch in seconds", "namespace", "pod", "container", "image")

	scrapeError = describe("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise")
	nodeName    = describe("kubelet_node_name", "The node's name. The count is always 1.", "node")
	runningPods = describe("kubelet_running_pods", "Number of pods of the virtual node that have not ended")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// counter and gauge are a metric at the time at which it was measured.
func counter(desc *prometheus.Desc, at time.Time, value float64, labels ...string) prometheus.Metric {
	return prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...))
}

func gauge(desc *prometheus.Desc, at time.Time, value float64, labels ...string) prometheus.Metric {
	return prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...))
}

// resource is /metrics/resource, which metrics-server reads. Each pod is there with all of its containers or not at all.
func (r *Reader) resource(p Picture, add func(prometheus.Metric)) {
	failed := 0.0
	if p.Err != nil {
		failed = 1
	}
	add(prometheus.MustNewConstMetric(scrapeError, prometheus.GaugeValue, failed))
	if !p.Node.Time.IsZero() {
		add(counter(nodeCPU, p.Node.Time, p.Node.Seconds))
		add(gauge(nodeMemory, p.Node.Time, float64(p.Node.Memory)))
	}
	for i := range p.Pods {
		pod := &p.Pods[i]
		of := []string{pod.Upper.Namespace, pod.Upper.Name}
		add(counter(podCPU, pod.Time, pod.Seconds, of...))
		add(gauge(podMemory, pod.Time, float64(pod.Memory), of...))
		for _, c := range pod.Containers {
			of := []string{pod.Upper.Namespace, pod.Upper.Name, c.Name}
			add(counter(containerCPU, c.Time, c.Seconds, of...))
			add(gauge(containerMemory, c.Time, float64(c.Memory), of...))
			add(prometheus.MustNewConstMetric(containerStart, prometheus.GaugeValue, seconds(c.Start), of...))
		}
	}
}

// cadvisor is /metrics/cadvisor: of all that cAdvisor knows, what a metrics API tells.
func (r *Reader) cadvisor(p Picture, add func(prometheus.Metric)) {
	for i := range p.Pods {
		pod := &p.Pods[i]
		for _, c := range pod.Containers {
			of := []string{pod.Upper.Namespace, pod.Upper.Name, c.Name, c.Image}
			add(counter(cadvisorCPU, c.Time, c.Seconds, append(of, "total")...))
			add(gauge(cadvisorMemory, c.Time, float64(c.Memory), of...))
			add(prometheus.MustNewConstMetric(cadvisorStart, prometheus.GaugeValue, seconds(c.Start), of...))
		}
	}
}

// kubelet is /metrics: what rules and dashboards of kubelets join by.
func (r *Reader) kubelet(p Picture, add func(prometheus.Metric)) {
	add(prometheus.MustNewConstMetric(nodeName, prometheus.GaugeValue, 1, r.Name))
	add(prometheus.MustNewConstMetric(runningPods, prometheus.GaugeValue, float64(p.Bound)))
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// summary is /stats/summary.
func (r *Reader) summary(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.summarize(request.Context())) // The client has gone if this fails.
}

func (r *Reader) summarize(ctx context.Context) *stats.Summary {
	p := r.Picture(ctx)
	summary := &stats.Summary{Node: stats.NodeStats{NodeName: r.Name}, Pods: []stats.PodStats{}}
	if !p.Node.Time.IsZero() {
		summary.Node.StartTime = metav1.NewTime(p.Node.Start)
		summary.Node.CPU, summary.Node.Memory = p.Node.stats()
	}
	for i := range p.Pods {
		summary.Pods = append(summary.Pods, p.Pods[i].stats())
	}
	return summary
}

func (p *Pod) stats() stats.PodStats {
	s := stats.PodStats{
		PodRef:    stats.PodReference{Namespace: p.Upper.Namespace, Name: p.Upper.Name, UID: string(p.Upper.UID)},
		StartTime: started(p.Upper), Containers: []stats.ContainerStats{},
	}
	s.CPU, s.Memory = p.Use.stats()
	for _, c := range p.Containers {
		one := stats.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.Start)}
		one.CPU, one.Memory = c.stats()
		s.Containers = append(s.Containers, one)
	}
	return s
}

func started(pod *corev1.Pod) metav1.Time {
	if pod.Status.StartTime != nil {
		return *pod.Status.StartTime
	}
	return pod.CreationTimestamp
}

func (u Use) stats() (*stats.CPUStats, *stats.MemoryStats) {
	cores, total, memory := uint64(u.Cores*1e9), uint64(u.Seconds*1e9), uint64(max(0, u.Memory))
	at := metav1.NewTime(u.Time)
	return &stats.CPUStats{Time: at, UsageNanoCores: &cores, UsageCoreNanoSeconds: &total},
		&stats.MemoryStats{Time: at, WorkingSetBytes: &memory}
}
