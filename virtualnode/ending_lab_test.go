package virtualnode_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// template is the template of a workload whose pods carry the label app=name.
func (w *world) template(name string, k int, change ...func(*corev1.Pod)) corev1.PodTemplateSpec {
	pod := w.pod("", k, change...)
	pod.Labels = map[string]string{"app": name}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec}
}

// deploy creates a Deployment of one pod.
func (w *world) deploy(name string, k int, change ...func(*corev1.Pod)) {
	w.Helper()
	template, one := w.template(name, k, change...), int32(1)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
	}}
	if _, err := w.upper.AppsV1().Deployments(w.ns).Create(w.Context(), deployment, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// stateful creates a StatefulSet of one pod, NAME-0, which no change of the template replaces.
func (w *world) stateful(name string, k int) {
	w.Helper()
	template, one := w.template(name, k), int32(1)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template, ServiceName: name,
		UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
	}}
	if _, err := w.upper.AppsV1().StatefulSets(w.ns).Create(w.Context(), set, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// of lists the upper pods of a workload.
func (w *world) of(name string) []corev1.Pod {
	w.Helper()
	list, err := w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// disrupted is a status with the condition DisruptionTarget. The disruption controller takes back one that is older than 2 min.
func disrupted(reason string) string {
	return fmt.Sprintf(`{"conditions":[{"type":"DisruptionTarget","status":"True","reason":%q,"lastTransitionTime":%q}]}`,
		reason, time.Now().UTC().Format(time.RFC3339))
}

// However the lower cluster ends a pod, it fails above with the reason, and its controller replaces it once.
func TestEndedBelowIsReplacedOnce(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	remove := func(pod string) {
		t.Helper()
		if err := lower.CoreV1().Pods(w.ns).Delete(t.Context(), pod, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ways := map[string]struct {
		reason string
		end    func(pod string)
	}{
		"deleted": {"LowerPodGone", remove},
		"evicted": {"Evicted", func(pod string) {
			err := lower.CoreV1().Pods(w.ns).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod}})
			if err != nil {
				t.Fatal(err)
			}
		}},
		"preempted": {"Preempted", func(pod string) {
			w.status(lower, pod, disrupted("PreemptionByScheduler"))
			remove(pod)
		}},
		"refused-by-kubelet": {"OutOfcpu", func(pod string) {
			w.status(lower, pod, `{"phase":"Failed","reason":"OutOfcpu","message":"Node didn't have enough resource"}`)
		}},
		"evicted-by-kubelet": {"Evicted", func(pod string) {
			w.status(lower, pod, `{"phase":"Failed","reason":"Evicted",`+disrupted("TerminationByKubelet")[1:])
		}},
	}
	for name := range ways {
		w.deploy(name, 1)
	}
	first := map[string]string{}
	for name := range ways {
		w.eventually(func() error {
			if all := w.of(name); len(all) != 1 || !running(&all[0]) {
				return fmt.Errorf("%s has %d pods", name, len(all))
			}
			return nil
		})
		first[name] = w.of(name)[0].Name
	}
	for name, way := range ways {
		way.end(first[name])
	}
	for name, way := range ways {
		failed := w.becomes(w.upper, first[name], "Failed with "+way.reason, func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed && p.Status.Reason == way.reason
		})
		disrupted := conditionOf(failed.Status.Conditions, corev1.DisruptionTarget).Type != ""
		if want := way.reason == "Evicted" || way.reason == "Preempted"; disrupted != want {
			t.Errorf("%s: DisruptionTarget is there: %t, want %t", name, disrupted, want)
		}
		w.eventually(func() error {
			all, alive := w.of(name), 0
			for i := range all {
				if running(&all[i]) {
					alive++
				}
			}
			if len(all) != 2 || alive != 1 {
				return fmt.Errorf("%s has %d pods, %d of them running, want the failed one and one replacement", name, len(all), alive)
			}
			return nil
		})
	}
}

// The node of a pod that is to end below is lost. Above the pod fails, and the StatefulSet gets no second one of the name
// before the first has gone.
func TestLostNode(t *testing.T) {
	l := shared.Get(t)
	w := newWorld(t, l)
	lower := w.lower(1)
	w.stateful("s", 1)
	w.becomes(w.upper, "s-0", "Running", running)
	below := w.get(lower, "s-0")
	kubelets := l.Process(l.LowerName(1) + "/kwok")
	signal := func(s syscall.Signal) {
		if err := kubelets.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = kubelets.Signal(syscall.SIGCONT) })
	ready := func(status string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Test"}]}}`, status)
		if _, err := lower.CoreV1().Nodes().Patch(t.Context(), below.Spec.NodeName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	ready("Unknown")
	second := int64(1)
	if err := lower.CoreV1().Pods(w.ns).Delete(t.Context(), "s-0", metav1.DeleteOptions{GracePeriodSeconds: &second}); err != nil {
		t.Fatal(err)
	}
	// The StatefulSet deletes the failed pod at once.
	failed := w.becomes(w.upper, "s-0", "Failed, deleted and kept", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "LowerNodeLost" && p.DeletionTimestamp != nil
	})
	if still := w.get(lower, "s-0"); still.UID != below.UID || *still.DeletionGracePeriodSeconds != second {
		t.Errorf("the lower pod was taken away by force: %+v", still.ObjectMeta)
	}
	if still := w.get(w.upper, "s-0"); still.UID != failed.UID {
		t.Error("there is a second pod of the name while the first may still run")
	}
	signal(syscall.SIGCONT) // The node is back, and its kubelet ends the pod.
	ready("True")
	again := w.becomes(w.upper, "s-0", "another one and Running", func(p *corev1.Pod) bool { return p.UID != failed.UID && running(p) })
	if now := w.get(lower, "s-0"); now.Annotations[keys.UpperUID] != string(again.UID) {
		t.Errorf("below is the pod of %s, want %s", now.Annotations[keys.UpperUID], again.UID)
	}
}

// A pod that is over above does not run on below, whoever wrote that it is over.
func TestOverAboveEndsBelow(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)
	pods := w.upper.CoreV1().Pods(w.ns)
	if _, err := pods.Patch(t.Context(), "p", types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{},
		"status"); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.lower(1), "p")
	pod := w.get(w.upper, "p")
	if pod.Status.Phase != corev1.PodSucceeded {
		t.Errorf("the upper pod is %s now", pod.Status.Phase)
	}
}
