package virtualnode_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// counted counts the upper pods that ever were in the namespace on virtual nodes, by the label app and the reason they ended for.
type counted struct {
	mu    sync.Mutex
	pods  map[string]map[types.UID]string
	waits map[string]bool // some pod of it waited
}

func (c *counted) take(events <-chan watch.Event) {
	for event := range events {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok || pod.Labels["app"] == "" {
			continue
		}
		c.mu.Lock()
		app := pod.Labels["app"]
		if c.pods[app] == nil {
			c.pods[app] = map[types.UID]string{}
		}
		c.pods[app][pod.UID] = pod.Status.Reason
		if pod.Status.Phase == corev1.PodPending && conditionOf(pod.Status.Conditions, keys.LowerPlaced).Type != "" {
			c.waits[app] = true
		}
		c.mu.Unlock()
	}
}

// A Deployment with nodeName in its template and a DaemonSet that tolerates everything are not created below, and do not make
// pod after pod.
func TestUnaskedPodsMakeNoStorm(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	events, err := w.upper.CoreV1().Pods(w.ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counts := &counted{pods: map[string]map[types.UID]string{}, waits: map[string]bool{}}
	go counts.take(events.ResultChan())
	begin := time.Now()
	unmarked := func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }
	w.deploy("named", 1, unmarked, func(p *corev1.Pod) { p.Spec.NodeName = w.lab.LowerName(1) })
	template := w.template("daemon", 1, unmarked, func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	})
	daemons := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "daemon"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
	}}
	if _, err := w.upper.AppsV1().DaemonSets(w.ns).Create(t.Context(), daemons, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const watched = 12 * time.Second // A storm would make hundreds in that time.
	w.eventually(func() error {
		counts.mu.Lock()
		defer counts.mu.Unlock()
		if !counts.waits["named"] || len(counts.pods["daemon"]) < 2 || time.Since(begin) < watched {
			return fmt.Errorf("counted so far: %v, waiting: %v", counts.pods, counts.waits)
		}
		return nil
	})
	counts.mu.Lock()
	defer counts.mu.Unlock()
	for app, reason := range map[string]string{"named": "NotAdmitted", "daemon": "DaemonSetNotSupported"} {
		seen := false
		for _, ended := range counts.pods[app] {
			seen = seen || ended == reason
		}
		if n := len(counts.pods[app]); n > 9 || !seen {
			t.Errorf("%s has made %d pods in %s, some of them ended as %s: %t", app, n, time.Since(begin).Round(time.Second), reason, seen)
		}
	}
	for k := 1; k <= 2; k++ {
		below, err := w.lower(k).CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(below.Items) > 0 {
			t.Errorf("%d pods below, %v", len(below.Items), err)
		}
	}
}

// A pod with the mark runs only where its namespace or itself has opted in. One that runs stays when that is taken back. Policies keep
// such pods from being created; these had been when that was taken back.
func TestOptIn(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	opt := func(value string) {
		t.Helper()
		patch(w, w.upper, "namespaces", w.ns, fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, keys.Enabled, value))
	}
	w.create(w.pod("stays", 1))
	w.becomes(w.upper, "stays", "Running", running)
	w.create(w.pod("itself", 1, gated, func(p *corev1.Pod) { p.Labels[keys.Enabled] = "true" }))
	w.eventually(func() error { // The cache of virtualnode may lag; pods of that moment may run.
		opt(`"true"`)
		w.eventually(func() error { // So may that of the policies.
			_, err := w.upper.CoreV1().Pods(w.ns).Create(t.Context(), w.pod("probe", 1, gated), metav1.CreateOptions{})
			return err
		})
		opt("null")
		w.ungate("probe")
		probe := w.becomes(w.upper, "probe", "decided", func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })
		now := int64(0)
		if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "probe", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		w.vanishes(w.upper, "probe")
		if probe.Status.Reason != "NotAdmitted" {
			return fmt.Errorf("a pod that is not opted in is %s %q", probe.Status.Phase, probe.Status.Reason)
		}
		return nil
	})
	w.ungate("itself")
	w.becomes(w.upper, "itself", "Running", running)
	opt(`"true"`)
	w.eventually(func() error {
		_, err := w.upper.CoreV1().Pods(w.ns).Create(t.Context(), w.pod("again", 1), metav1.CreateOptions{})
		return err
	})
	w.becomes(w.upper, "again", "Running", running)
	if stays := w.get(w.upper, "stays"); !running(stays) {
		t.Errorf("the pod that was running is %s", stays.Status.Phase)
	}
}
