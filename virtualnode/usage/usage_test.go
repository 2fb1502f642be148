package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// A counter integrates rates by the times at which they were measured, and starts anew with what it counts for.
func TestSeries(t *testing.T) {
	t.Parallel()
	begin := time.Unix(10_000, 0)
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	type sample struct {
		rate     float64
		at       time.Time
		window   time.Duration
		instance time.Time
	}
	for name, c := range map[string]struct {
		samples []sample
		start   time.Time
		seconds float64
	}{
		"the first":                {[]sample{{2, at(100), 10 * time.Second, time.Time{}}}, at(90), 20},
		"began within its window":  {[]sample{{2, at(100), 10 * time.Second, at(96)}}, at(96), 8},
		"goes on":                  {[]sample{{2, at(100), 10 * time.Second, at(1)}, {1, at(115), 10 * time.Second, at(1)}}, at(90), 35},
		"the same again":           {[]sample{{2, at(100), 10 * time.Second, at(1)}, {9, at(100), 10 * time.Second, at(1)}}, at(90), 20},
		"an older one":             {[]sample{{2, at(100), 10 * time.Second, at(1)}, {9, at(80), 10 * time.Second, at(1)}}, at(90), 20},
		"another instance":         {[]sample{{2, at(100), 10 * time.Second, at(1)}, {1, at(120), 10 * time.Second, at(113)}}, at(113), 7},
		"another, not measured":    {[]sample{{2, at(100), 10 * time.Second, at(1)}, {2, at(100), 10 * time.Second, at(105)}}, at(90), 20},
		"instance not known":       {[]sample{{2, at(100), 10 * time.Second, at(1)}, {1, at(110), 10 * time.Second, time.Time{}}}, at(90), 30},
		"instance known in a bit":  {[]sample{{2, at(100), 10 * time.Second, time.Time{}}, {1, at(110), 10 * time.Second, at(1)}}, at(90), 30},
		"a clock that is far away": {[]sample{{2, at(100), 10 * time.Second, at(5000)}}, at(90), 20},
	} {
		var s series
		for _, one := range c.samples {
			s.add(one.rate, one.at, one.window, one.instance)
		}
		if !s.start.Equal(c.start) || math.Abs(s.seconds-c.seconds) > 1e-9 {
			t.Errorf("%s: %.3f s since %s, want %.3f since %s", name, s.seconds, s.start.Sub(begin), c.seconds, c.start.Sub(begin))
		}
	}
}

// cluster is a metrics API, and the pods of a virtual node on both sides.
type cluster struct {
	err   error
	lists int
	items []metricsv1beta1.PodMetrics
	upper []any
	lower map[types.UID]*corev1.Pod
}

func (c *cluster) List(_ context.Context, options metav1.ListOptions) (*metricsv1beta1.PodMetricsList, error) {
	c.lists++
	if want := "tessera.sh/upper=us,tessera.sh/virtual-node=v"; options.LabelSelector != want {
		return nil, fmt.Errorf("listed with %q, want %q", options.LabelSelector, want)
	}
	return &metricsv1beta1.PodMetricsList{Items: c.items}, c.err
}

func (c *cluster) reader() *Reader {
	return New(Setup{
		Name: "v", Identity: "us", Source: c, Above: func() []any { return c.upper },
		LowerOf: func(upper *corev1.Pod) *corev1.Pod { return c.lower[upper.UID] },
		Changed: func() {}, Log: slog.New(slog.DiscardHandler),
	})
}

// pod puts a pod on both sides that uses so many cores and mebibytes in each of its containers.
func (c *cluster) pod(name string, at time.Time, cores string, mebibytes int64, containers ...string) {
	upper := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}}
	m := metricsv1beta1.PodMetrics{
		ObjectMeta: metav1.ObjectMeta{Namespace: "t-shop", Name: name}, Timestamp: metav1.NewTime(at), Window: metav1.Duration{Duration: 10 * time.Second},
	}
	for _, container := range containers {
		upper.Spec.Containers = append(upper.Spec.Containers, corev1.Container{Name: container, Image: "image-of-" + container})
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: container, Usage: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cores), corev1.ResourceMemory: *resource.NewQuantity(mebibytes<<20, resource.BinarySI),
		}})
	}
	c.upper, c.items = append(c.upper, upper), append(c.items, m)
	if c.lower == nil {
		c.lower = map[types.UID]*corev1.Pod{}
	}
	c.lower[upper.UID] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "t-shop", Name: name}}
}

func answer(t *testing.T, r *Reader, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handlers()[path].ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%s is answered with %d, %v: %s", path, w.Code, err, body)
	}
	var lines []string
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// What each path says of one pod with two containers, as the upper cluster knows it; nothing of pods that it does not know.
func TestPaths(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{}
		at := time.Now()
		c.pod("a", at, "500m", 10, "main", "sidecar")
		c.items = append(c.items, metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Namespace: "t-shop", Name: "unknown"}})
		r := c.reader()
		ms, start := at.UnixMilli(), float64(at.Add(-10*time.Second).UnixMilli())/1000
		for path, want := range map[string]string{
			"/metrics": "kubelet_node_name{node=\"v\"} 1\nkubelet_running_pods 1\n",
			"/metrics/cadvisor": fmt.Sprintf(`container_cpu_usage_seconds_total{container="main",cpu="total",image="image-of-main",namespace="shop",pod="a"} 5 %[1]d
container_cpu_usage_seconds_total{container="sidecar",cpu="total",image="image-of-sidecar",namespace="shop",pod="a"} 5 %[1]d
container_memory_working_set_bytes{container="main",image="image-of-main",namespace="shop",pod="a"} 1.048576e+07 %[1]d
container_memory_working_set_bytes{container="sidecar",image="image-of-sidecar",namespace="shop",pod="a"} 1.048576e+07 %[1]d
container_start_time_seconds{container="main",image="image-of-main",namespace="shop",pod="a"} %[2]v
container_start_time_seconds{container="sidecar",image="image-of-sidecar",namespace="shop",pod="a"} %[2]v
`, ms, start),
			"/metrics/probes": "",
			"/metrics/resource": fmt.Sprintf(`container_cpu_usage_seconds_total{container="main",namespace="shop",pod="a"} 5 %[1]d
container_cpu_usage_seconds_total{container="sidecar",namespace="shop",pod="a"} 5 %[1]d
container_memory_working_set_bytes{container="main",namespace="shop",pod="a"} 1.048576e+07 %[1]d
container_memory_working_set_bytes{container="sidecar",namespace="shop",pod="a"} 1.048576e+07 %[1]d
container_start_time_seconds{container="main",namespace="shop",pod="a"} %[2]v
container_start_time_seconds{container="sidecar",namespace="shop",pod="a"} %[2]v
node_cpu_usage_seconds_total 15 %[1]d
node_memory_working_set_bytes 2.097152e+07 %[1]d
pod_cpu_usage_seconds_total{namespace="shop",pod="a"} 10 %[1]d
pod_memory_working_set_bytes{namespace="shop",pod="a"} 2.097152e+07 %[1]d
resource_scrape_error 0
`, ms, start),
		} {
			if diff := cmp.Diff(want, answer(t, r, path)); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
		}
		var summary stats.Summary
		if err := json.Unmarshal([]byte(answer(t, r, "/stats/summary")), &summary); err != nil {
			t.Fatal(err)
		}
		if len(summary.Pods) != 1 || len(summary.Pods[0].Containers) != 2 || summary.Pods[0].PodRef.UID != "a" ||
			*summary.Pods[0].CPU.UsageNanoCores != 1e9 || *summary.Node.Memory.WorkingSetBytes != 20<<20 || summary.Node.NodeName != "v" {
			t.Errorf("the summary is %+v", summary)
		}
		if c.lists != 1 {
			t.Errorf("listed %d times, want once for all of them", c.lists)
		}
	})
}

// Counters go on from list to list, with one list in 15 s for as long as somebody asks, and none when nobody does.
func TestReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{}
		c.pod("a", time.Now(), "1", 10, "main")
		r := c.reader()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.Run(ctx); close(ended) }()
		sleep := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait() // The reader may have woken at the same moment.
		}
		sleep(time.Minute)
		if c.lists != 0 {
			t.Errorf("%d lists although nobody asked", c.lists)
		}
		first := r.Picture(ctx)
		for range 3 * 60 {
			sleep(time.Second)
			c.items[0].Timestamp = metav1.NewTime(time.Now())
			r.Picture(ctx)
		}
		if c.lists < 11 || c.lists > 14 {
			t.Errorf("%d lists in three minutes of asking each second", c.lists)
		}
		last := r.Picture(ctx)
		used, passed := last.Pods[0].Seconds-first.Pods[0].Seconds, last.Pods[0].Time.Sub(first.Pods[0].Time).Seconds()
		if math.Abs(used-passed) > 1e-6 || math.Abs(last.Node.Seconds-first.Node.Seconds-passed) > 1e-6 || !last.Pods[0].Start.Equal(first.Pods[0].Start) {
			t.Errorf("a pod that uses a core has used %.1f s in %.1f s, the node %.1f", used, passed, last.Node.Seconds)
		}
		sleep(idleAfter + readEvery)
		lists := c.lists
		sleep(10 * time.Minute)
		if c.lists != lists {
			t.Errorf("%d lists more although nobody has asked for long", c.lists-lists)
		}
		cancel()
		<-ended
	})
}

// A cluster without a metrics API is asked once a minute; one that fails, each time. What is old is not shown, and it is told.
func TestTrouble(t *testing.T) {
	t.Parallel()
	pods := metricsv1beta1.Resource("pods")
	for name, c := range map[string]struct {
		err         error
		least, most int // lists in five minutes
	}{
		"no metrics API": {apierrors.NewNotFound(pods, ""), 4, 6},
		"no right":       {apierrors.NewForbidden(pods, "", errors.New("rbac")), 4, 6},
		"it fails":       {apierrors.NewServiceUnavailable("metrics-server is away"), 19, 24},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cluster := &cluster{}
				cluster.pod("a", time.Now(), "1", 10, "main")
				r := cluster.reader()
				changes := 0
				r.Changed = func() { changes++ }
				if asked, err := r.Trouble(); asked || err != nil {
					t.Errorf("before anybody has asked: %t, %v", asked, err)
				}
				r.Picture(t.Context())
				cluster.err, cluster.lists = c.err, 0
				for range 5 * 60 {
					<-time.After(time.Second)
					r.Picture(t.Context())
				}
				if cluster.lists < c.least || cluster.lists > c.most {
					t.Errorf("%d lists in five minutes, want %d to %d", cluster.lists, c.least, c.most)
				}
				if asked, err := r.Trouble(); !asked || !errors.Is(err, c.err) || changes != 2 {
					t.Errorf("told %d times: %t, %v", changes, asked, err)
				}
				if got := answer(t, r, "/metrics/resource"); got != "resource_scrape_error 1\n" {
					t.Errorf("after five minutes there is still %s", got)
				}
				if got := answer(t, r, "/metrics"); !strings.Contains(got, "kubelet_running_pods 1") {
					t.Errorf("the pods are not counted any more: %s", got)
				}
				cluster.err = nil
				<-time.After(failedPause)
				if p := r.Picture(t.Context()); p.Err != nil || len(p.Pods) != 1 {
					t.Errorf("well again: %+v", p)
				}
			})
		})
	}
}
