package extender_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestWritten has Deployments as people write them for real nodes, through admission, the real scheduler and virtualnode: two real nodes and
// three lower clusters of two nodes each, of 4 CPUs all of them; the nodes of lower-2 are of another architecture.
func TestWritten(t *testing.T) {
	t.Parallel()
	w := newWritten(t)
	t.Run("hard spread over hosts", w.spreads)
	t.Run("apart on each host", w.apart)
	t.Run("together on one host", w.together)
	t.Run("an architecture for those who name none", w.architecture)
	t.Run("a gate that opens with a selector", w.gated)
	t.Run("a fence", w.fence)
	t.Run("real nodes first, then in order, and the way back", w.overflow)
	t.Run("virtual nodes first", w.prefer)
}

type written struct {
	lab   *lab.Lab
	upper kubernetes.Interface
	lower []kubernetes.Interface // [0] is lower-1
}

func newWritten(t *testing.T) *written {
	t.Helper()
	shape, err := lab.ParseShape("cpu=4")
	if err != nil {
		t.Fatal(err)
	}
	l := startLab(t, lab.Options{Lower: 3, Nodes: 2, UpperNodes: 2, Shapes: []lab.Shape{shape}, Parts: path})
	w := &written{lab: l, upper: client(t, l.Upper())}
	for i := range 3 {
		w.lower = append(w.lower, client(t, l.Lower(i+1)))
	}
	for i := range 2 {
		arm := []byte(`{"metadata":{"labels":{"kubernetes.io/arch":"arm64","pool":"gold"}}}`)
		if _, err := w.lower[1].CoreV1().Nodes().Patch(t.Context(), l.NodeName(2, i+1), types.MergePatchType, arm, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// deploy makes a Deployment in an opted-in namespace of its own. end takes its pods away, so that the next one finds room.
func (w *written) deploy(t *testing.T, name string, replicas int32, cpu int64, change func(*appsv1.Deployment)) (end func()) {
	t.Helper()
	newNamespace(t, w.upper, name, true)
	labels := map[string]string{"app": name}
	pod := newPod(name, cpus(cpu))
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{}}, Spec: pod.Spec},
	}}
	change(d)
	if _, err := w.upper.AppsV1().Deployments(name).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return func() { w.end(t, name) }
}

func (w *written) end(t *testing.T, namespace string) {
	t.Helper()
	ctx := context.Background()
	_ = w.upper.AppsV1().Deployments(namespace).Delete(ctx, namespace, metav1.DeleteOptions{})
	lab.Eventually(t, time.Minute, func() error {
		_ = w.upper.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		for _, c := range append([]kubernetes.Interface{w.upper}, w.lower...) {
			left, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if len(left.Items) > 0 {
				return fmt.Errorf("%d pods are left", len(left.Items))
			}
		}
		return nil
	})
}

// where counts the running pods by node, and by the lower node they are on.
func (w *written) where(ctx context.Context, namespace string, want int) (nodes, hosts map[string]int, err error) {
	pods, err := w.upper.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	nodes, hosts = map[string]int{}, map[string]int{}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			nodes[pod.Spec.NodeName]++
			hosts[pod.Spec.NodeName+"/"+pod.Annotations[keys.LowerNode]]++
		}
	}
	total := 0
	for _, count := range nodes {
		total += count
	}
	if total != want || len(pods.Items) != want {
		return nodes, hosts, cmp.Or(runs(ctx, w.upper, namespace, want), errors.New("pods come and go"))
	}
	return nodes, hosts, nil
}

// settle waits until so many run, and returns where.
func (w *written) settle(t *testing.T, namespace string, want int) (nodes, hosts map[string]int) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() (err error) {
		nodes, hosts, err = w.where(t.Context(), namespace, want)
		if err == nil && len(hosts) > 0 && nodes["upper-node-0001"]+nodes["upper-node-0002"] == 0 {
			for host := range hosts {
				if host[len(host)-1] == '/' {
					return fmt.Errorf("%s is not told yet", host)
				}
			}
		}
		return err
	})
	return nodes, hosts
}

func hosts(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func (w *written) spreads(t *testing.T) {
	defer w.deploy(t, "spread", 2, 1, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: hosts("spread"),
		}}
	})()
	if _, on := w.settle(t, "spread", 2); len(on) != 2 {
		t.Errorf("both run on %v", on)
	}
}

func (w *written) apart(t *testing.T) {
	defer w.deploy(t, "apart", 6, 1, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: hosts("apart")}},
		}}
	})()
	if _, on := w.settle(t, "apart", 6); len(on) != 6 {
		t.Errorf("they run on %v", on)
	}
}

func (w *written) together(t *testing.T) {
	defer w.deploy(t, "together", 3, 1, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: hosts("together")}},
		}}
	})()
	if _, on := w.settle(t, "together", 3); len(on) != 1 {
		t.Errorf("they run on %v", on)
	}
}

// architecture: pods that name none get the one of their namespace, those that name one go there.
func (w *written) architecture(t *testing.T) {
	newNamespace(t, w.upper, "legacy", true)
	standard := []byte(`{"metadata":{"annotations":{"tessera.sh/architecture":"amd64"}}}`)
	if _, err := w.upper.CoreV1().Namespaces().Patch(t.Context(), "legacy", types.MergePatchType, standard, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	defer w.deploy(t, "legacy", 6, 2, func(*appsv1.Deployment) {})()
	if on, _ := w.settle(t, "legacy", 6); on["lower-2"] > 0 {
		t.Errorf("pods for amd64 run on %v, and lower-2 is arm64", on)
	}
	arm := newPod("arm", cpus(1))
	arm.Spec.NodeSelector = map[string]string{corev1.LabelArchStable: "arm64"}
	if _, err := w.upper.CoreV1().Pods("legacy").Create(t.Context(), arm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if on, _ := w.settle(t, "legacy", 7); on["lower-2"] != 1 {
		t.Errorf("a pod for arm64 is not in lower-2: %v", on)
	}
}

func (w *written) gated(t *testing.T) {
	defer w.deploy(t, "queued", 1, 1, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/queue"}}
	})()
	var name string
	lab.Eventually(t, time.Minute, func() error {
		pods, err := w.upper.CoreV1().Pods("queued").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		name = pods.Items[0].Name
		return nil
	})
	for _, patch := range []string{`{"spec":{"nodeSelector":{"pool":"gold"}}}`, `{"spec":{"schedulingGates":null}}`} {
		if _, err := w.upper.CoreV1().Pods("queued").Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if on, _ := w.settle(t, "queued", 1); on["lower-2"] != 1 {
		t.Errorf("it runs on %v; nodes of pool gold are in lower-2", on)
	}
}

func (w *written) fence(t *testing.T) {
	newNamespace(t, w.upper, "fenced", true)
	fence := []byte(`{"metadata":{"annotations":{"tessera.sh/clusters":"tessera.sh/cluster in (lower-3)"}}}`)
	if _, err := w.upper.CoreV1().Namespaces().Patch(t.Context(), "fenced", types.MergePatchType, fence, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	defer w.deploy(t, "fenced", 3, 2, func(*appsv1.Deployment) {})()
	if on, _ := w.settle(t, "fenced", 3); on["lower-3"] != 3 {
		t.Errorf("they run on %v, their fence is around lower-3", on)
	}
}

// overflow: 13 pods of 3 CPUs: 10 fit onto the real nodes, 2 into the first cluster of the order, one goes to the next. 11 stay: those on the
// real nodes and one of the first cluster's.
func (w *written) overflow(t *testing.T) {
	defer w.deploy(t, "overflow", 10, 3, func(d *appsv1.Deployment) {
		maps.Copy(d.Spec.Template.Annotations, map[string]string{keys.Policy: keys.PolicyOverflow, keys.ClusterOrder: "lower-3, lower-1"})
	})()
	front := map[string]int{"upper-node-0001": 5, "upper-node-0002": 5}
	on, _ := w.settle(t, "overflow", 10)
	if diff := gocmp.Diff(front, on); diff != "" {
		t.Errorf("real nodes first:\n%s", diff)
	}
	w.scale(t, "overflow", 13)
	on, _ = w.settle(t, "overflow", 13)
	if diff := gocmp.Diff(map[string]int{"upper-node-0001": 5, "upper-node-0002": 5, "lower-3": 2, "lower-1": 1}, on); diff != "" {
		t.Errorf("filled:\n%s", diff)
	}
	for _, left := range []int32{12, 11, 10} {
		w.scale(t, "overflow", left)
		on, _ = w.settle(t, "overflow", int(left))
		want := maps.Clone(front)
		if left > 10 {
			want["lower-3"] = int(left) - 10
		}
		if diff := gocmp.Diff(want, on); diff != "" {
			t.Errorf("%d are left:\n%s", left, diff)
		}
	}
}

// prefer: 8 pods of 3 CPUs: the 6 lower nodes take one each, the two real ones take what is left.
func (w *written) prefer(t *testing.T) {
	defer w.deploy(t, "prefer", 8, 3, func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations[keys.Policy] = keys.PolicyPrefer
		d.Spec.Template.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	})()
	on, _ := w.settle(t, "prefer", 8)
	want := map[string]int{"lower-1": 2, "lower-2": 2, "lower-3": 2, "upper-node-0001": on["upper-node-0001"], "upper-node-0002": 2 - on["upper-node-0001"]}
	maps.DeleteFunc(want, func(_ string, count int) bool { return count == 0 })
	if diff := gocmp.Diff(want, on); diff != "" {
		t.Errorf("filled:\n%s", diff)
	}
}

func (w *written) scale(t *testing.T, name string, replicas int32) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := w.upper.AppsV1().Deployments(name).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}
