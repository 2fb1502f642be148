package virtualnode_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// lastOf watches a pod until it is deleted; the channel gives its last state.
func (w *world) lastOf(client kubernetes.Interface, pod *corev1.Pod) <-chan *corev1.Pod {
	w.Helper()
	watched, err := client.CoreV1().Pods(w.ns).Watch(w.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=" + pod.Name, ResourceVersion: pod.ResourceVersion,
	})
	if err != nil {
		w.Fatal(err)
	}
	last := make(chan *corev1.Pod, 1)
	go func() {
		defer watched.Stop()
		for event := range watched.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type == watch.Deleted {
				last <- pod
			}
		}
		close(last)
	}()
	return last
}

// A deleted pod gets its hook, its SIGTERM and its time. Above it is there until all of that is over, with its last state.
func TestRealDeletionTakesItsTime(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	lower := w.lower(1)
	w.create(w.pod("p", 1, doing("wait", "append=/shared/order:terminated", "sleep=2s", "report=/shared/order", "exit=7"), func(p *corev1.Pod) {
		hook := &corev1.ExecAction{Command: []string{"/payload", "append=/shared/order:hook"}}
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: hook}}
	}, sharing))
	upper := w.becomes(w.upper, "p", "Running", running)
	below := w.get(lower, "p")
	lastAbove, lastBelow := w.lastOf(w.upper, upper), w.lastOf(lower, below)
	begin := time.Now()
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.upper, "p")
	t.Logf("gone above after %.1f s", time.Since(begin).Seconds())
	if left := processes(w, below.UID); len(left) > 0 {
		t.Errorf("it has gone above while processes %v run below", left)
	}
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("it has gone after %s, but takes 2 s to end", took)
	}
	for where, last := range map[string]<-chan *corev1.Pod{"above": lastAbove, "below": lastBelow} {
		pod := <-last
		if pod == nil {
			t.Fatalf("the watch %s has ended", where)
		}
		if end := ended(pod); end == nil || end.ExitCode != 7 || end.Message != "hook\nterminated\n" {
			t.Errorf("the last state %s is %+v", where, pod.Status.ContainerStatuses)
		}
	}
}

// A pod that is deleted by force is gone above and below at once, and is killed although it would take an hour to end.
func TestRealForcedDeletion(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait", "sleep=1h"), func(p *corev1.Pod) {
		grace := int64(3) // the kubelet allows that much even then
		p.Spec.TerminationGracePeriodSeconds = &grace
	}))
	w.becomes(w.upper, "p", "Running", running)
	below := w.get(w.lower(1), "p")
	now := int64(0)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.upper, "p")
	w.vanishes(w.lower(1), "p")
	w.ends(below.UID)
}

// A pod that is evicted below ends in its own time there, and fails above.
func TestRealEviction(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.create(w.pod("p", 1, doing("wait", "sleep=2s")))
	w.becomes(w.upper, "p", "Running", running)
	below := w.get(w.lower(1), "p")
	if err := w.lower(1).CoreV1().Pods(w.ns).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}}); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.upper, "p", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted" })
	if left := processes(w, below.UID); len(left) > 0 {
		t.Errorf("it has failed above while processes %v run below", left)
	}
}
