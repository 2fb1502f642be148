package virtualnode_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// deployment makes one of so many replicas for the virtual node of lower cluster k.
func (w *world) deployment(name string, k int, replicas int32) {
	w.Helper()
	template := w.pod("", k)
	template.Labels = map[string]string{"app": name}
	template.Spec.TerminationGracePeriodSeconds = new(int64(1))
	_, err := w.upper.AppsV1().Deployments(w.ns).Create(w.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// The real kubectl drains a lower node as ever: our pods have a controller, each is replaced once, and the node is left empty.
func TestDrainBelow(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.deployment("web", 1, 4)
	before := w.running("web", 4)
	below, err := w.lower(1).CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := below.Items[0].Spec.NodeName
	for _, pod := range below.Items {
		owner := metav1.GetControllerOf(&pod)
		if owner == nil || owner.Kind != "Namespace" || pod.Annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] != "true" {
			t.Errorf("pod %s belongs to %v and has annotations %v", pod.Name, owner, pod.Annotations)
		}
	}
	kubectl := func(args ...string) {
		t.Helper()
		if out, err := w.lab.Kubectl(t.Context(), append([]string{"--kubeconfig", w.lab.LowerKubeconfig(1)}, args...)...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s", "--pod-selector=app=web")
	defer kubectl("uncordon", node)
	moved := 0
	for _, pod := range below.Items {
		if pod.Spec.NodeName == node {
			moved++
		}
	}
	w.eventually(func() error { // The drain is over below before all of it is told above.
		same := 0
		for uid := range w.running("web", 4) {
			if before[uid] {
				same++
			}
		}
		if same != 4-moved {
			return fmt.Errorf("%d of 4 pods are the same, %d were on the node", same, moved)
		}
		return nil
	})
}

// running waits until so many pods of a Deployment run, not counting those that have ended, and returns their UIDs.
func (w *world) running(name string, want int) map[types.UID]bool {
	w.Helper()
	var uids map[types.UID]bool
	w.eventually(func() error {
		uids = map[types.UID]bool{}
		list, err := w.upper.CoreV1().Pods(w.ns).List(w.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if pod := &list.Items[i]; running(pod) && pod.DeletionTimestamp == nil {
				uids[pod.UID] = true
			}
		}
		if len(uids) != want {
			return fmt.Errorf("%d pods of %s run, want %d", len(uids), name, want)
		}
		return nil
	})
	return uids
}

// A budget of the lower cluster that is a percentage and selects our pods, too, cannot be counted where they have a controller
// without a scale. ownerInOpenNamespaces: false, which lower-2 has, is for such namespaces.
func TestBudgetsOfOpenNamespaces(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	for k, counted := range map[int]bool{1: false, 2: true} {
		lower := w.lower(k)
		if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(w.ns), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		half := intstr.FromString("50%")
		if _, err := lower.PolicyV1().PodDisruptionBudgets(w.ns).Create(t.Context(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "theirs"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &half, Selector: &metav1.LabelSelector{}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("p", k)
		w.create(w.pod(name, k))
		w.becomes(w.upper, name, "Running", running)
		w.eventually(func() error {
			budget, err := lower.PolicyV1().PodDisruptionBudgets(w.ns).Get(t.Context(), "theirs", metav1.GetOptions{})
			if err != nil {
				return err
			}
			failed := false
			for _, c := range budget.Status.Conditions {
				failed = failed || c.Reason == policyv1.SyncFailedReason
			}
			if budget.Status.ObservedGeneration == 0 || failed == counted {
				return fmt.Errorf("lower-%d: counting failed %v: %+v", k, failed, budget.Status)
			}
			return nil
		})
	}
}

// Somebody below who writes our marks on a pod of theirs, in another namespace or under another name, changes nothing above; nor
// is their pod touched.
func TestForgedPods(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	upper := w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)
	own := w.get(lower, "p")
	elsewhere := "elsewhere-" + w.ns[len("test-"):]
	if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(elsewhere), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	forged := map[string]types.UID{}
	for namespace, name := range map[string]string{elsewhere: "p", w.ns: "other"} {
		for i, annotations := range []map[string]string{own.Annotations, {keys.UpperUID: "none", keys.UpperNamespace: w.ns, keys.UpperName: "web-0"}, nil} {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(name, i), Labels: own.Labels, Annotations: annotations},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "theirs"}}},
			}
			w.eventually(func() error {
				made, err := lower.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
				if err == nil {
					forged[namespace+"/"+made.Name] = made.UID
				}
				return err
			})
		}
	}
	begin := time.Now()
	w.eventually(func() error {
		pod := w.get(w.upper, "p")
		if pod.UID != upper.UID || pod.Annotations[keys.LowerNode] != own.Spec.NodeName || pod.Status.Phase != corev1.PodRunning {
			t.Fatalf("the upper pod is on %s: %+v", pod.Annotations[keys.LowerNode], pod.Status)
		}
		if time.Since(begin) < 5*time.Second {
			return errors.New("a moment more")
		}
		return nil
	})
	w.create(w.pod("web-0", 1)) // The name is nobody's, whatever the forged pods say.
	w.becomes(w.upper, "web-0", "Running", running)
	for key, uid := range forged {
		namespace, name, _ := strings.Cut(key, "/")
		pod, err := lower.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || pod.UID != uid || pod.DeletionTimestamp != nil {
			t.Fatalf("forged pod %s was touched: %v", key, err)
		}
	}
}

// Two who make and end pods against each other do so slower each time.
func TestEndedAgainAndAgain(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.deployment("web", 1, 1)
	lower := w.lower(1)
	begin := time.Now()
	for time.Since(begin) < 12*time.Second {
		pods, err := lower.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			_ = lower.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, *metav1.NewDeleteOptions(0)) // It may be gone already.
		}
		wait(t, 50*time.Millisecond)
	}
	made, err := w.upper.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(made.Items); n < 3 || n > 8 {
		t.Errorf("%d pods were made in 12 s, want one after 1, 2 and 4 s", n)
	}
	if err := w.upper.AppsV1().Deployments(w.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// wait lets some time pass between two interferences.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}
