package virtualnode_test

import (
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// lateNode is a second virtual node on lower-2, whose pods are replaced lateAfter it is lost.
const (
	lateNode  = "late"
	lateAfter = 12 * time.Second
)

// Two clusters fall silent at once. The pods of the one are kept, those of the other replaced, by one virtual node later than
// by the other, and when the clusters are back nothing is there twice.
func lost(w *world) {
	kept, gone := w.lab.LowerName(1), w.lab.LowerName(2)
	kubeconfig, err := os.ReadFile(clusterFile(w.lab, gone))
	if err != nil {
		w.Fatal(err)
	}
	w.join(lateNode, kubeconfig)
	before := map[string]map[types.UID]bool{}
	for name, cluster := range map[string]string{"kept": kept, "gone": gone, "late": lateNode} {
		w.workload(name, cluster, 2)
		before[name] = w.replicas(name, cluster, 2)
	}
	containers := w.below("kept", 1)
	w.eventually(func() error { return w.tolerates("kept", nil) })
	w.eventually(func() error { return w.tolerates("gone", new(int64(5))) })
	w.eventually(func() error { return w.tolerates("late", new(int64(lateAfter.Seconds()))) })
	lateSeen := w.nodesSeen(lateNode)
	for _, name := range []string{kept, gone} {
		// Without it nobody below takes the silent leases of the restart for dead nodes, after which KWOK, unlike a kubelet, would
		// never call their pods ready again.
		w.lab.Process(name + "/kube-controller-manager").Kill()
		w.lab.Process(name + "/apiserver").Kill()
	}
	for _, node := range []string{kept, gone, lateNode} {
		w.nodeReady(node, corev1.ConditionFalse, "LowerUnreachable")
	}
	lab.Eventually(w.T, lostPatience, func() error { return w.replaced("gone", before["gone"]) })
	w.node(kept, func(node *corev1.Node) error { return outlived(node, 8*time.Second) })
	lab.Eventually(w.T, lostPatience, func() error { return w.replaced("late", before["late"]) })
	w.deletedAfter(firstTainted(lateSeen()), "late", lateAfter)
	w.leaseLives(kept)
	w.untouched("kept", before["kept"])
	for _, name := range []string{kept, gone} {
		for _, process := range []string{"/apiserver", "/kube-controller-manager"} {
			if err := w.lab.Process(name + process).Restart(w.Context()); err != nil {
				w.Fatal(err)
			}
		}
	}
	lab.Eventually(w.T, lostPatience, func() error { return readyAgain(w, kept, gone, lateNode) })
	after := map[string]map[types.UID]bool{}
	for name, cluster := range map[string]string{"kept": kept, "gone": gone, "late": lateNode} {
		after[name] = w.replicas(name, cluster, 2)
	}
	for uid := range after["kept"] {
		if !before["kept"][uid] || containers[uid] != w.below("kept", 1)[uid] {
			w.Errorf("pod %s was replaced", uid)
		}
	}
	w.eventually(func() error { return w.onlyBelow(after, map[string]int{"kept": 1, "gone": 2, "late": 2}) })
}

// untouched fails the test for every pod of a Deployment that is not one of those, or does not run.
func (w *world) untouched(name string, old map[types.UID]bool) {
	w.Helper()
	for uid, pod := range w.above(name) {
		if !old[uid] || pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
			w.Errorf("pod %s of the cluster that keeps its pods: %s, deleted %v", pod.Name, pod.Status.Phase, pod.DeletionTimestamp)
		}
	}
}

// firstTainted is when the pods of a node began to have to tolerate that it is lost: node-lifecycle may write the taint again later,
// with another time, where its own cache does not show it yet.
func firstTainted(seen []*corev1.Node) (first time.Time) {
	for _, node := range seen {
		for _, t := range node.Spec.Taints {
			if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded != nil &&
				(first.IsZero() || t.TimeAdded.Time.Before(first)) {
				first = t.TimeAdded.Time
			}
		}
	}
	return first
}

// deletedAfter fails the test for every pod of a Deployment that was deleted sooner than that time after its node was tainted.
func (w *world) deletedAfter(tainted time.Time, name string, d time.Duration) {
	w.Helper()
	if tainted.IsZero() {
		w.Error("the node was not seen to be tainted")
	}
	for _, pod := range w.above(name) {
		if pod.DeletionTimestamp == nil {
			continue
		}
		grace := time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
		if after := pod.DeletionTimestamp.Add(-grace).Sub(tainted); after < d-time.Second { // Times are in seconds.
			w.Errorf("pod %s was deleted %s after its node was lost, want %s", pod.Name, after, d)
		}
	}
}

// onlyBelow says as an error which of the Deployments' pods, two each, are not below or should not be, by lower cluster.
func (w *world) onlyBelow(wanted map[string]map[types.UID]bool, where map[string]int) error {
	w.Helper()
	for name, k := range where {
		there := w.below(name, k)
		for uid := range there {
			if !wanted[name][uid] {
				return fmt.Errorf("a pod of %s is there that is none above", name)
			}
		}
		if len(there) != 2 {
			return fmt.Errorf("%d pods of %s below, want 2", len(there), name)
		}
	}
	return nil
}

// above lists the pods of a Deployment by UID.
func (w *world) above(name string) map[types.UID]*corev1.Pod {
	w.Helper()
	list, err := w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		w.Fatal(err)
	}
	found := map[types.UID]*corev1.Pod{}
	for i := range list.Items {
		found[list.Items[i].UID] = &list.Items[i]
	}
	return found
}

// tolerates says as an error which pod does not tolerate a node that is not ready for that many seconds, nil is for ever, and an
// unreachable one for ever.
func (w *world) tolerates(name string, seconds *int64) error {
	w.Helper()
	for _, pod := range w.above(name) {
		found := 0
		for _, t := range pod.Spec.Tolerations {
			wanted := seconds
			switch t.Key {
			case corev1.TaintNodeUnreachable:
				wanted = nil
			case corev1.TaintNodeNotReady:
			default:
				continue
			}
			if (t.TolerationSeconds == nil) != (wanted == nil) || (wanted != nil && *t.TolerationSeconds != *wanted) {
				return fmt.Errorf("pod %s tolerates %s for %v", pod.Name, t.Key, t.TolerationSeconds)
			}
			found++
		}
		if found != 2 {
			return fmt.Errorf("pod %s has tolerations %v", pod.Name, pod.Spec.Tolerations)
		}
	}
	return nil
}

// replaced says as an error which of the pods nobody has deleted yet, or that there are no new ones.
func (w *world) replaced(name string, old map[types.UID]bool) error {
	w.Helper()
	fresh := 0
	for uid, pod := range w.above(name) {
		if old[uid] && pod.DeletionTimestamp == nil {
			return fmt.Errorf("pod %s is not deleted", pod.Name)
		}
		if !old[uid] {
			fresh++
		}
	}
	if fresh != len(old) {
		return fmt.Errorf("%d new pods of %s, want %d", fresh, name, len(old))
	}
	return nil
}

// outlived says as an error that a node's pods have not had to tolerate a lost node for that long yet.
func outlived(node *corev1.Node, d time.Duration) error {
	return outlivedTaint(node, corev1.TaintNodeNotReady, d)
}

// outlivedTaint is outlived for one of the two taints.
func outlivedTaint(node *corev1.Node, key string, d time.Duration) error {
	for _, taint := range node.Spec.Taints {
		if taint.Key == key && taint.Effect == corev1.TaintEffectNoExecute && taint.TimeAdded != nil {
			if since := time.Since(taint.TimeAdded.Time); since < d {
				return fmt.Errorf("tainted %s ago", since)
			}
			return nil
		}
	}
	return fmt.Errorf("node %s evicts no pods: %v", node.Name, node.Spec.Taints)
}

// leaseLives fails the test if the lease of a virtual node is not renewed: it would mean that virtualnode is away.
func (w *world) leaseLives(name string) {
	w.Helper()
	lease, err := w.upper.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	if since := time.Since(lease.Spec.RenewTime.Time); since > 10*time.Second {
		w.Errorf("the lease of %s was renewed %s ago", name, since)
	}
}

// workload creates a Deployment, of one cluster unless that is "".
func (w *world) workload(name, cluster string, replicas int32) {
	w.Helper()
	labels := map[string]string{"app": name}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(1)),
		Containers: []corev1.Container{{Name: "c", Image: "app:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		}}},
	}}
	if cluster != "" {
		template.Spec.NodeSelector = map[string]string{keys.Cluster: cluster}
	}
	_, err := w.upper.AppsV1().Deployments(w.ns).Create(w.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// replicas waits until exactly so many pods of a Deployment exist, all of them on the cluster and ready, and returns their UIDs.
func (w *world) replicas(name, cluster string, want int) map[types.UID]bool {
	w.Helper()
	var uids map[types.UID]bool
	lab.Eventually(w.T, lostPatience, func() error {
		uids = map[types.UID]bool{}
		list, err := w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		for i := range list.Items {
			pod := &list.Items[i]
			if ready := conditionOf(pod.Status.Conditions, corev1.PodReady); ready.Status != corev1.ConditionTrue || pod.DeletionTimestamp != nil {
				return fmt.Errorf("pod %s on %q: %s, ready %q, deleted %v", pod.Name, pod.Spec.NodeName, pod.Status.Phase, ready.Status, pod.DeletionTimestamp)
			}
			if cluster != "" && pod.Spec.NodeName != cluster {
				return fmt.Errorf("pod %s is on %q, want %s", pod.Name, pod.Spec.NodeName, cluster)
			}
			uids[pod.UID] = true
		}
		if len(uids) != want {
			return fmt.Errorf("%d pods of %s, want %d", len(uids), name, want)
		}
		return nil
	})
	return uids
}

// below lists the pods of a Deployment in lower cluster k by the UID of the upper pod.
func (w *world) below(name string, k int) map[types.UID]types.UID {
	w.Helper()
	list, err := w.lower(k).CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	found := map[types.UID]types.UID{}
	for i := range list.Items {
		found[types.UID(list.Items[i].Annotations[keys.UpperUID])] = list.Items[i].UID
	}
	return found
}
