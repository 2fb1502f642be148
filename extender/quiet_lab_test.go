package extender_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// refusedPodsRest: 200 pods wait for a hole that no lower node has, and in each cluster a pod of somebody else comes and goes every
// second. Every write of a virtual node would have the scheduler try all of them again.
func (r *rules) refusedPodsRest(t *testing.T) {
	const ns, waiting = "quiet", 200
	seconds := 30
	if lab.Chaos() {
		seconds = 60
	}
	newNamespace(t, r.upper, ns, true)
	defer r.empty(t, ns)
	for i := range 13 { // One on each lower node: 7 CPUs are left there.
		r.create(t, ns, newPod(fmt.Sprintf("filler-%d", i), cpus(9)))
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, ns, 13) })
	for i := range waiting {
		r.create(t, ns, newPod(fmt.Sprintf("waits-%d", i), cpus(8)))
	}
	for i := range waiting {
		r.refusedWith(t, ns, fmt.Sprintf("waits-%d", i), string(keys.Fragmented))
	}
	for _, below := range r.lower {
		newNamespace(t, below, "theirs", false)
	}
	// What the pods themselves caused is over when nothing is asked for three seconds.
	last, since := -1, time.Now()
	lab.Eventually(t, time.Minute, func() error {
		now, err := r.filterCalls(t)
		if err == nil && now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 3*time.Second {
			return errors.Join(err, errors.New("the scheduler still tries them"))
		}
		return err
	})
	for i := range seconds {
		begin := time.Now()
		for k, below := range r.lower {
			pod := newPod(fmt.Sprintf("theirs-%d", i), cpus(1))
			pod.Labels, pod.Annotations, pod.Spec.Tolerations = nil, nil, nil
			pod.Spec.TerminationGracePeriodSeconds = new(int64)
			lab.Eventually(t, time.Minute, func() error { // Until the namespace has its account.
				_, err := below.CoreV1().Pods("theirs").Create(t.Context(), pod, metav1.CreateOptions{})
				return err
			})
			if i > 0 {
				if err := below.CoreV1().Pods("theirs").Delete(t.Context(), fmt.Sprintf("theirs-%d", i-1), metav1.DeleteOptions{}); err != nil {
					t.Fatalf("lower-%d: %v", k+1, err)
				}
			}
		}
		lab.Eventually(t, time.Minute, func() error {
			if left := time.Second - time.Since(begin); left > 0 {
				return fmt.Errorf("%s left of this second", left)
			}
			return nil
		})
	}
	for k, below := range r.lower {
		pod, err := below.CoreV1().Pods("theirs").Get(t.Context(), fmt.Sprintf("theirs-%d", seconds-1), metav1.GetOptions{})
		if err != nil || pod.Status.Phase == corev1.PodFailed {
			t.Errorf("lower-%d: the last of their pods: %v, %s", k+1, err, pod.Status.Phase)
		}
		if err := below.CoreV1().Pods("theirs").Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	now, err := r.filterCalls(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d filter calls before, %d in %d s", last, now-last, seconds)
	if most := seconds / 3; last < waiting || now-last > most {
		t.Errorf("%d filter calls for %d pods, then %d while %d pods of others came and went in each cluster, want %d at most",
			last, waiting, now-last, seconds, most)
	}
}

// filterCalls is how often the scheduler has asked the extender to filter.
func (r *rules) filterCalls(t *testing.T) (int, error) {
	t.Helper()
	answer, err := http.Get(r.lab.ExtenderURL() + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if count, ok := strings.CutPrefix(lines.Text(), `tessera_extender_request_duration_seconds_count{verb="filter"} `); ok {
			var calls int
			_, err := fmt.Sscan(count, &calls)
			return calls, err
		}
	}
	return 0, errors.New("the metrics have no count of filter calls")
}
