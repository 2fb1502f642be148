package extender_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// TestOverClusters has pods that demand something over all clusters go all the way. Of the three clusters the nodes of lower-1 and lower-2
// have the label disk=ssd.
func TestOverClusters(t *testing.T) {
	l := startLab(t, lab.Options{Lower: 3, Nodes: 2, Parts: path})
	o := &overClusters{lab: l, upper: client(t, l.Upper())}
	ssd := []byte(`{"metadata":{"labels":{"disk":"ssd"}}}`)
	for k := 1; k <= 2; k++ {
		lower := client(t, l.Lower(k))
		nodes, err := lower.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range nodes.Items {
			if _, err := lower.CoreV1().Nodes().Patch(t.Context(), nodes.Items[i].Name, types.MergePatchType, ssd, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("spread leaves out the cluster without a matching node", o.spread)
	t.Run("minDomains", o.minDomains)
	t.Run("spread during a rollout", o.rollout)
	t.Run("a group starts in one cluster", o.together)
	t.Run("one pod a cluster", o.apart)
}

type overClusters struct {
	lab   *lab.Lab
	upper kubernetes.Interface
}

var web = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

func (o *overClusters) spread(t *testing.T) {
	o.deploy(t, "spread", 6, corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}, TopologySpreadConstraints: evenly()})
	o.running(t, "spread", 6, map[string]int{"lower-1": 3, "lower-2": 3})
}

// minDomains: as long as there are too few domains, the fewest pods that any has count as none.
func (o *overClusters) minDomains(t *testing.T) {
	constraints := evenly()
	constraints[0].MinDomains = new(int32(3))
	o.deploy(t, "domains", 4, corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}, TopologySpreadConstraints: constraints})
	o.running(t, "domains", 2, map[string]int{"lower-1": 1, "lower-2": 1})
	o.told(t, "domains", map[string]keys.Reason{"lower-1": keys.Spread, "lower-2": keys.Spread, "lower-3": keys.NodeAffinity})
}

// rollout: with the hash of the template among the labels that must match, the pods of each version are spread for themselves.
func (o *overClusters) rollout(t *testing.T) {
	constraints := evenly()
	constraints[0].MatchLabelKeys = []string{appsv1.DefaultDeploymentUniqueLabelKey}
	o.deploy(t, "rollout", 6, corev1.PodSpec{TopologySpreadConstraints: constraints})
	even := map[string]int{"lower-1": 2, "lower-2": 2, "lower-3": 2}
	o.running(t, "rollout", 6, even)
	second := []byte(`{"spec":{"template":{"metadata":{"annotations":{"version":"2"}}}}}`)
	if _, err := o.upper.AppsV1().Deployments("rollout").Patch(t.Context(), "web", types.MergePatchType, second, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		d, err := o.upper.AppsV1().Deployments("rollout").Get(t.Context(), "web", metav1.GetOptions{})
		if err == nil && (d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < 6 || d.Status.Replicas > 6) {
			err = fmt.Errorf("%d of %d pods are new", d.Status.UpdatedReplicas, d.Status.Replicas)
		}
		return err
	})
	o.running(t, "rollout", 6, even)
}

// together: no pod of the group is there when all of them come.
func (o *overClusters) together(t *testing.T) {
	near := &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: keys.Cluster, LabelSelector: web}}}
	o.deploy(t, "together", 6, corev1.PodSpec{Affinity: &corev1.Affinity{PodAffinity: near}})
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), o.upper, "together", 6) })
	if on := o.byNode(t, "together"); len(on) != 1 {
		t.Errorf("the group runs on %v, want one cluster", on)
	}
}

// apart: the fourth of three pods waits, is told why, and comes once another one has gone.
func (o *overClusters) apart(t *testing.T) {
	away := &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: keys.Cluster, LabelSelector: web}}}
	newNamespace(t, o.upper, "apart", true)
	for i := range 4 {
		pod := newPod(fmt.Sprint("web-", i), cpus(1))
		pod.Labels["app"], pod.Spec.Affinity = "web", &corev1.Affinity{PodAntiAffinity: away}
		if _, err := o.upper.CoreV1().Pods("apart").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	o.running(t, "apart", 3, map[string]int{"lower-1": 1, "lower-2": 1, "lower-3": 1})
	all := keys.PodAffinity
	waits := o.told(t, "apart", map[string]keys.Reason{"lower-1": all, "lower-2": all, "lower-3": all})
	pods, err := o.upper.CoreV1().Pods("apart").List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		t.Fatal(err)
	}
	gone := pods.Items[0]
	started := time.Now()
	if err := o.upper.CoreV1().Pods("apart").Delete(t.Context(), gone.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, func() error {
		pod, err := o.upper.CoreV1().Pods("apart").Get(t.Context(), waits, metav1.GetOptions{})
		if err == nil && pod.Spec.NodeName != gone.Spec.NodeName {
			err = fmt.Errorf("%s is on %q, want %s, where %s has gone", waits, pod.Spec.NodeName, gone.Spec.NodeName, gone.Name)
		}
		return err
	})
	t.Logf("bound %s after the other pod was deleted", time.Since(started).Round(time.Millisecond))
}

func evenly() []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{
		{MaxSkew: 1, TopologyKey: keys.Cluster, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: web},
	}
}

// deploy makes a namespace with a Deployment of pods like that.
func (o *overClusters) deploy(t *testing.T, namespace string, replicas int32, spec corev1.PodSpec) {
	t.Helper()
	newNamespace(t, o.upper, namespace, true)
	spec.Containers, spec.TerminationGracePeriodSeconds = newPod("", cpus(1)).Spec.Containers, new(int64)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: web,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: web.MatchLabels}, Spec: spec},
	}}
	if _, err := o.upper.AppsV1().Deployments(namespace).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.upper.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}) })
}

// running waits until so many pods run, and demands where.
func (o *overClusters) running(t *testing.T, namespace string, n int, want map[string]int) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		running := 0
		for _, count := range o.byNode(t, namespace) {
			running += count
		}
		if running != n {
			return fmt.Errorf("%d pods of %s run, want %d: %w", running, namespace, n, runs(t.Context(), o.upper, namespace, n))
		}
		return nil
	})
	if diff := cmp.Diff(want, o.byNode(t, namespace)); diff != "" {
		t.Errorf("pods of %s by cluster (-want +got):\n%s", namespace, diff)
	}
}

// byNode counts the running pods of a namespace that are not on their way out.
func (o *overClusters) byNode(t *testing.T, namespace string) map[string]int {
	t.Helper()
	pods, err := o.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]int{}
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning && pods.Items[i].DeletionTimestamp == nil {
			on[pods.Items[i].Spec.NodeName]++
		}
	}
	return on
}

// told waits until a pod that waits is explained so, and returns its name.
func (o *overClusters) told(t *testing.T, namespace string, want map[string]keys.Reason) (name string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		pods, err := o.upper.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName="})
		if err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return errors.New("no pod waits")
		}
		name = pods.Items[0].Name
		var explained wire.Explanation
		if err := get(t.Context(), o.lab.ExtenderURL()+"/debug/pods/"+namespace+"/"+name, &explained); err != nil {
			return err
		}
		reasons := map[string]keys.Reason{}
		for _, v := range explained.Clusters {
			reasons[v.Name] = v.Reason
		}
		if diff := cmp.Diff(want, reasons); diff != "" {
			return fmt.Errorf("why %s waits (-want +got):\n%s", name, diff)
		}
		return nil
	})
	return name
}
