package extender_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestReplicasApart creates two replicas that would rather be on different nodes and in different clusters, one after the other, as
// most charts of highly available Deployments have them: they are, although the node of the first is the tightest for the second.
func TestReplicasApart(t *testing.T) {
	l := startLab(t, lab.Options{Lower: 2, Nodes: 2, Parts: path})
	upper := client(t, l.Upper())
	const ns = "apart"
	newNamespace(t, upper, ns, true)
	same := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "api"}}
	for i := range 2 {
		pod := newPod(fmt.Sprint("api-", i), corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("256Mi")})
		pod.Labels["app"] = "api"
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
				Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: same},
			}},
		}}
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
			{MaxSkew: 1, TopologyKey: keys.Cluster, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: same},
		}
		if _, err := upper.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), upper, ns, 2) })
	pods, err := upper.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes, clusters := map[string]bool{}, map[string]bool{}
	for _, pod := range pods.Items {
		clusters[pod.Spec.NodeName] = true
		nodes[pod.Spec.NodeName+"/"+pod.Annotations[keys.LowerNode]] = true
	}
	if len(clusters) != 2 || len(nodes) != 2 {
		t.Errorf("two replicas are on %v", nodes)
	}
}
