package virtualnode_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

func TestNode(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	name := w.lab.LowerName(1)
	w.nodeReady(name, corev1.ConditionTrue, "LowerAnswers")
	node, err := w.upper.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		keys.Cluster: name, "kubernetes.io/role": "agent", "type": "virtual-kubelet",
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	} {
		if got := node.Labels[label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
	for label := range node.Labels {
		if label == corev1.LabelHostname || strings.HasPrefix(label, "topology.") {
			t.Errorf("label %s makes the topology spread of ordinary pods count the virtual node", label)
		}
	}
	if taints := node.Spec.Taints; len(taints) != 1 || taints[0].Key != keys.VirtualTaint || taints[0].Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("taints %v", taints)
	}
	// Pods of other tests may have made it larger, and that it is a little too large is not worth a write.
	if got := node.Status.Capacity.Cpu().Value(); got < 80 || got > 84 {
		t.Errorf("capacity %d CPU, want what may be allocated: 4 nodes of 16 and the largest one more", got)
	}
	w.eventually(func() error {
		node, err := w.upper.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && node.Status.NodeInfo.KubeletVersion != lab.KubernetesVersion {
			err = fmt.Errorf("version %q", node.Status.NodeInfo.KubeletVersion)
		}
		return err
	})
	lease, err := w.upper.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		t.Errorf("lease %+v, %v", lease, err)
	}
}

func TestPodRuns(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	upper := w.create(w.pod("p", 1, func(p *corev1.Pod) {
		p.Annotations = map[string]string{"lab.tessera.sh/slow-stop": "true"}
	}))
	got := w.becomes(w.upper, "p", "Running", running)
	below := w.get(w.lower(1), "p")
	if got.Annotations[keys.LowerNode] != below.Spec.NodeName || got.Annotations[keys.LowerIP] != below.Status.PodIP || below.Status.PodIP == "" {
		t.Errorf("facts %v of a pod on %s with %s", got.Annotations, below.Spec.NodeName, below.Status.PodIP)
	}
	if got.Status.PodIP != "" {
		t.Errorf("an address of the lower network, %s, is shown above", got.Status.PodIP)
	}
	if c := conditionOf(got.Status.Conditions, corev1.PodReady); c.Status != corev1.ConditionTrue {
		t.Errorf("conditions %+v", got.Status.Conditions)
	}
	if diff := cmp.Diff(below.Status.ContainerStatuses, got.Status.ContainerStatuses); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{keys.UpperUID: string(upper.UID), keys.UpperNamespace: w.ns, keys.UpperName: "p"}
	for key, value := range want {
		if below.Annotations[key] != value {
			t.Errorf("annotation %s below is %q, want %q", key, below.Annotations[key], value)
		}
	}
	ns, err := w.lower(1).CoreV1().Namespaces().Get(t.Context(), w.ns, metav1.GetOptions{})
	if err != nil || ns.Labels[keys.Upper] != below.Labels[keys.Upper] {
		t.Errorf("namespace below %+v, %v", ns, err)
	}

	grace := int64(3)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		t.Fatal(err)
	}
	ending := w.becomes(w.lower(1), "p", "ending", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if *ending.DeletionGracePeriodSeconds != grace {
		t.Errorf("grace below %d s, want %d", *ending.DeletionGracePeriodSeconds, grace)
	}
	w.get(w.upper, "p") // It stays for as long as there is something below.
	w.vanishes(w.upper, "p")
	w.vanishes(w.lower(1), "p")
}

func TestPodEnds(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	ending := func(code string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Annotations = map[string]string{"lab.tessera.sh/run-seconds": "1", "lab.tessera.sh/exit-code": code}
		}
	}
	w.create(w.pod("good", 1, ending("0")))
	w.create(w.pod("bad", 1, ending("3")))
	w.becomes(w.upper, "good", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	bad := w.becomes(w.upper, "bad", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if ended := bad.Status.ContainerStatuses[0].State.Terminated; ended == nil || ended.ExitCode != 3 {
		t.Errorf("container %+v", bad.Status.ContainerStatuses[0])
	}
}

func TestChangesComeDown(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("p", 1, func(p *corev1.Pod) { p.Labels["old"] = "x" }))
	w.becomes(w.upper, "p", "Running", running)
	patch := `{"metadata":{"labels":{"app":"changed","old":null},"annotations":{"note":"n"}},"spec":{"containers":[{"name":"main","image":"app:2"}],` +
		`"activeDeadlineSeconds":600}}`
	if _, err := w.upper.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.lower(1), "p", "changed", func(p *corev1.Pod) bool {
		_, old := p.Labels["old"]
		return p.Labels["app"] == "changed" && !old && p.Annotations["note"] == "n" && p.Spec.Containers[0].Image == "app:2" &&
			p.Spec.ActiveDeadlineSeconds != nil && p.Labels[keys.VirtualNode] == w.lab.LowerName(1)
	})
}

// The lower pod goes where the hint says even if the lower scheduler would rather have another node.
func TestHint(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	hinted, preferred := w.lab.NodeName(1, 2), w.lab.NodeName(1, 3)
	place := func(name string, hint func(types.UID)) *corev1.Pod {
		upper := w.create(w.pod(name, 1, func(p *corev1.Pod) {
			gated(p) // until its UID is known to the extender
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 100, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{preferred},
				}}},
			}}}}
		}))
		holds.set(func() { hint(upper.UID) })
		w.ungate(name)
		w.becomes(w.upper, name, "Running", running)
		return w.get(w.lower(1), name)
	}
	if got := place("without", func(types.UID) {}); got.Spec.NodeName != preferred {
		t.Fatalf("without a hint the pod is on %s, so this test shows nothing", got.Spec.NodeName)
	}
	got := place("with", func(uid types.UID) { holds.node[uid] = w.lab.LowerName(1) + "/" + hinted })
	if got.Spec.NodeName != hinted || len(got.Spec.SchedulingGates) > 0 {
		t.Errorf("the pod is on %s, the hint said %s; gates %v", got.Spec.NodeName, hinted, got.Spec.SchedulingGates)
	}
	place("extender-hangs", func(uid types.UID) { holds.silent[uid] = true })
	place("held-elsewhere", func(uid types.UID) { holds.node[uid] = w.lab.LowerName(2) + "/" + w.lab.NodeName(2, 1) })
}

// A pod of somebody else that has the name below is not touched, and the owner above is told.
func TestForeignPodIsNotTouched(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(w.ns), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "theirs"}}}}
		_, err := lower.CoreV1().Pods(w.ns).Create(t.Context(), foreign, metav1.CreateOptions{})
		return err
	})
	before := w.becomes(lower, "p", "Running", running)
	w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "refused by name", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return p.Status.Phase == corev1.PodPending && c.Status == corev1.ConditionFalse && c.Reason == string(keys.NameConflict)
	})
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=NameConflict"})
		if err == nil && len(events.Items) == 0 {
			err = fmt.Errorf("no event NameConflict")
		}
		return err
	})
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.vanishes(w.upper, "p")
	if after := w.get(lower, "p"); after.ResourceVersion != before.ResourceVersion || after.UID != before.UID {
		t.Errorf("the foreign pod went from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
}

func TestPodsWithoutTheMarkAreRefused(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("p", 1, func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
		p.Spec.NodeName = w.lab.LowerName(1) // as a DaemonSet or an impatient user would
	}))
	w.becomes(w.upper, "p", "Failed", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "NotAdmitted"
	})
	w.vanishes(w.lower(1), "p")
}

// A quota below holds the pod back; it neither fails nor is it forgotten.
func TestQuotaBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t))
	w.patience = time.Minute // What is refused is tried three times a minute.
	lower := w.lower(1)
	if _, err := lower.CoreV1().Namespaces().Create(t.Context(), openNamespace(w.ns), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}}
	if _, err := lower.CoreV1().ResourceQuotas(w.ns).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		q, err := lower.CoreV1().ResourceQuotas(w.ns).Get(t.Context(), "q", metav1.GetOptions{})
		if err == nil && len(q.Status.Hard) == 0 {
			err = fmt.Errorf("the quota is not in force yet")
		}
		return err
	})
	w.create(w.pod("p", 1, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
	w.becomes(w.upper, "p", "held back by the quota", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return p.Status.Phase == corev1.PodPending && c.Reason == string(keys.Quota) && strings.Contains(c.Message, "exceeded quota")
	})
	if err := lower.CoreV1().ResourceQuotas(w.ns).Delete(t.Context(), "q", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := w.becomes(w.upper, "p", "Running", running)
	if c := conditionOf(pod.Status.Conditions, keys.LowerPlaced); c.Type != "" {
		t.Errorf("the refusal is still shown: %+v", c)
	}
}

// A pod that is deleted below is replaced by its controller, once.
func TestVanishedPodIsReplacedOnce(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	one := int32(1)
	template := w.pod("", 1)
	template.Labels = map[string]string{"app": "d"}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
		Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec},
	}}
	if _, err := w.upper.AppsV1().Deployments(w.ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := func() []corev1.Pod {
		list, err := w.upper.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	w.eventually(func() error {
		if all := pods(); len(all) != 1 || !running(&all[0]) {
			return fmt.Errorf("%d pods", len(all))
		}
		return nil
	})
	first := pods()[0]
	if err := w.lower(1).CoreV1().Pods(w.ns).Delete(t.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.upper, first.Name, "Failed", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "LowerPodGone"
	})
	w.eventually(func() error {
		alive := 0
		for _, pod := range pods() {
			if running(&pod) {
				alive++
			}
		}
		if all := pods(); len(all) != 2 || alive != 1 {
			return fmt.Errorf("%d pods, %d of them running, want the failed one and one replacement", len(all), alive)
		}
		return nil
	})
}

// A StatefulSet makes the same name again as soon as it is free above, while the old pod may still be ending below.
func TestSameNameAgain(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	lower := w.lower(1)
	hold := func(finalizers string) {
		t.Helper()
		patch := []byte(`{"metadata":{"finalizers":` + finalizers + `}}`)
		if _, err := lower.CoreV1().Pods(w.ns).Patch(t.Context(), "p", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.create(w.pod("p", 1))
	w.becomes(w.upper, "p", "Running", running)
	hold(`["test.example.com/hold"]`)
	now := int64(0) // Forced: the upper object goes at once.
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	second := w.create(w.pod("p", 1))
	w.becomes(lower, "p", "ending", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if pod := w.get(w.upper, "p"); pod.Status.Phase != corev1.PodPending {
		t.Errorf("while the old pod is ending the new one is %s", pod.Status.Phase)
	}
	w.becomes(lower, "p", "ended by its kubelet", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded && *p.DeletionGracePeriodSeconds == 0
	})
	hold("null")
	w.becomes(w.upper, "p", "Running", running)
	if below := w.get(lower, "p"); below.Annotations[keys.UpperUID] != string(second.UID) {
		t.Errorf("the pod below is that of %s, want %s", below.Annotations[keys.UpperUID], second.UID)
	}
}

// A pod deleted while it is being created below is not there afterwards.
func TestDeletedWhileCreating(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	now := int64(0)
	for i := range 20 {
		name := fmt.Sprint("p-", i)
		w.create(w.pod(name, 1, func(p *corev1.Pod) { p.Spec.SchedulerName = "nobody" }))
		bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: w.lab.LowerName(1)}}
		if err := w.upper.CoreV1().Pods(w.ns).Bind(t.Context(), bind, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
	}
	last := w.create(w.pod("last", 1)) // Once it runs, the others have had their turn.
	w.becomes(w.upper, last.Name, "Running", running)
	for i := range 20 {
		w.vanishes(w.lower(1), fmt.Sprint("p-", i))
	}
}
