package extender_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// noPreemption: the scheduler's own filters refuse a virtual node to pods of high priority in every way they can, each of which
// would go away if pods of low priority were ended there. Nobody dies for that: what is free below is not what is free above.
func (r *rules) noPreemption(t *testing.T) {
	const ns = "preempt"
	newNamespace(t, r.upper, ns, true)
	defer r.empty(t, ns)
	r.priorityClass(t, "higher", 2000)
	for i := range 13 { // One on each lower node, which it fills.
		low := newPod(fmt.Sprintf("low-%d", i), cpus(16))
		low.Labels["app"] = "low"
		if i == 0 || i == 1 {
			low.Spec.NodeSelector = map[string]string{keys.Cluster: fmt.Sprintf("lower-%d", i+1)}
			low.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		}
		r.create(t, ns, low)
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, ns, 13) })
	high := func(name string, cpu int64, change func(*corev1.Pod)) *corev1.Pod {
		pod := newPod(name, cpus(cpu))
		pod.Spec.PriorityClassName = "higher"
		change(pod)
		return pod
	}
	waiting := []*corev1.Pod{
		high("larger-than-any-node", 17, func(*corev1.Pod) {}),
		high("larger-than-what-is-left", 40, func(*corev1.Pod) {}),
		high("of-a-full-node", 16, func(*corev1.Pod) {}),
		high("with-a-host-port", 1, func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		}),
		high("apart", 1, func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
					TopologyKey: keys.Cluster, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "low"}},
				}},
			}}
		}),
	}
	for _, pod := range waiting {
		r.create(t, ns, pod)
	}
	for _, pod := range waiting {
		t.Logf("%s: %s", pod.Name, r.refusedWith(t, ns, pod.Name, "nodes are available"))
	}
	r.cordonBelow(t, true)
	defer r.cordonBelow(t, false)
	r.create(t, ns, high("while-all-are-cordoned", 16, func(*corev1.Pod) {}))
	t.Logf("cordoned: %s", r.refusedWith(t, ns, "while-all-are-cordoned", "nodes are available"))
	begin := time.Now()
	lab.Eventually(t, time.Minute, func() error {
		r.alive(t, ns, 13)
		if left := 5*time.Second - time.Since(begin); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
}

// cordonBelow cordons all lower nodes, or takes that back.
func (r *rules) cordonBelow(t *testing.T, is bool) {
	t.Helper()
	for _, c := range r.lower {
		nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range nodes.Items {
			patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, is)
			if _, err := c.CoreV1().Nodes().Patch(t.Context(), node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// alive fails the test unless so many pods of low priority run, none of them on its way out.
func (r *rules) alive(t *testing.T, namespace string, want int) {
	t.Helper()
	pods, err := r.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=low"})
	if err != nil {
		t.Fatal(err)
	}
	alive := 0
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			alive++
		}
	}
	if alive != want {
		t.Fatalf("%d pods of low priority are alive, want %d", alive, want)
	}
}
