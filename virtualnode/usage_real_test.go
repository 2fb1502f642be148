package virtualnode_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// near reports whether two amounts differ by 15 % at the most.
func near(a, b float64) bool { return math.Abs(a-b) <= 0.15*max(a, b) }

// uses asks a cluster's metrics API what the pods of the test's namespace use: cores and bytes, by name.
func (w *world) uses(client kubernetes.Interface) (map[string][2]float64, error) {
	data, err := client.CoreV1().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/namespaces", w.ns, "pods").DoRaw(w.Context())
	if err != nil {
		return nil, err
	}
	var list metricsv1beta1.PodMetricsList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	all := map[string][2]float64{}
	for i := range list.Items {
		var sum [2]float64
		for _, c := range list.Items[i].Containers {
			sum[0] += c.Usage.Cpu().AsApproximateFloat64()
			sum[1] += c.Usage.Memory().AsApproximateFloat64()
		}
		all[list.Items[i].Name] = sum
	}
	return all, nil
}

// kubectlAbove runs kubectl against the upper cluster, in the test's namespace.
func (w *world) kubectlAbove(ctx context.Context, args ...string) (string, error) {
	return w.lab.Kubectl(ctx, append([]string{"--kubeconfig=" + w.lab.UpperKubeconfig(), "--namespace=" + w.ns}, args...)...)
}

// Through the real metrics-server of the upper cluster a pod uses what the lower cluster says it does, kubectl top shows it, the pod's
// node too, and a HorizontalPodAutoscaler scales by it.
func TestRealUsage(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	w.patience *= 3 // Two metrics-servers, one behind the other, measure every 10 and 15 s.
	labels := map[string]string{"app": "busy"}
	one := int32(1)
	template := w.pod("", 1, doing("burn=150")) // It gets less where the machine is busy, and asks for less than that.
	template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("20m")
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "busy"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
		},
	}
	if _, err := w.upper.AppsV1().Deployments(w.ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		above, err := w.uses(w.upper)
		if err != nil {
			return err
		}
		below, err := w.uses(w.lower(1))
		if err != nil {
			return err
		}
		if len(above) != 1 || len(below) != 1 {
			return fmt.Errorf("above %v, below %v", above, below)
		}
		for name, up := range above {
			if down := below[name]; !near(up[0], down[0]) || !near(up[1], down[1]) || up[0] < 0.04 {
				return fmt.Errorf("pod %s uses %v above and %v below", name, up, down)
			}
		}
		return nil
	})
	pods, err := w.kubectlAbove(t.Context(), "top", "pods", "--containers")
	if err != nil || !strings.Contains(pods, "main") {
		t.Errorf("kubectl top pods says %q: %v", pods, err)
	}
	var nodes string
	w.eventually(func() (err error) {
		if nodes, err = w.kubectlAbove(t.Context(), "top", "nodes", "-l", keys.Cluster); err == nil && !strings.Contains(nodes, w.lab.LowerName(1)) {
			err = fmt.Errorf("kubectl top nodes says %q", nodes)
		}
		return err
	})
	t.Logf("%s%s", pods, nodes)
	w.autoscaled()
}

// autoscaled has an autoscaler keep the pods of the Deployment busy at a utilization at which two of them are needed.
func (w *world) autoscaled() {
	w.Helper()
	target := int32(100)
	scaler := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "busy"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "busy"}, MaxReplicas: 2,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
			}}},
		},
	}
	scalers := w.upper.AutoscalingV2().HorizontalPodAutoscalers(w.ns)
	if _, err := scalers.Create(w.Context(), scaler, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error {
		now, err := scalers.Get(w.Context(), "busy", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.Status.DesiredReplicas != 2 || len(now.Status.CurrentMetrics) != 1 || now.Status.CurrentMetrics[0].Resource == nil {
			return fmt.Errorf("the autoscaler says %+v", now.Status)
		}
		if seen := now.Status.CurrentMetrics[0].Resource.Current.AverageUtilization; seen == nil || *seen < 200 {
			return errors.New("the autoscaler does not see that the pods use more than they ask for: " + now.Status.CurrentMetrics[0].String())
		}
		deployment, err := w.upper.AppsV1().Deployments(w.ns).Get(w.Context(), "busy", metav1.GetOptions{})
		if err == nil && deployment.Status.ReadyReplicas != 2 {
			err = fmt.Errorf("the Deployment has %+v", deployment.Status)
		}
		return err
	})
}
