package snapshot

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// BenchmarkPreferred judges 100 clusters of 1,000 nodes and weighs the answers, for pods that prefer something, and for one that does
// not. p99 is of single questions.
func BenchmarkPreferred(b *testing.B) {
	const clusters = 100
	pool, s := NewPool(), benchCluster(1_000)
	for k := range clusters {
		name := fmt.Sprint("c", k)
		pool.Publish(time.Time{}, New(Content{Cluster: name, Nodes: s.Nodes, Own: s.Own, Surroundings: s.around}))
	}
	nowhere := benchPod("7", "8")
	apart := nowhere.DeepCopy()
	apart.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
		Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: apart.Labels}, TopologyKey: corev1.LabelHostname},
	}}}}
	even := apart.DeepCopy()
	for _, key := range []string{keys.Cluster, "zone", corev1.LabelHostname} {
		even.Spec.TopologySpreadConstraints = append(even.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: apart.Labels},
		})
	}
	disk := benchPod("7", "8")
	disk.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
		Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}},
	}}}}
	for _, question := range []struct {
		what string
		pod  *corev1.Pod
	}{{"nothing", nowhere}, {"node-affinity", disk}, {"anti-affinity", apart}, {"anti-affinity-and-three-spreads", even}} {
		pods, verdicts, asked := make([]*Pod, clusters), make([]Verdict, clusters), make([]*Verdict, clusters)
		for k := range clusters {
			pods[k] = comingThrough(question.pod, fmt.Sprint("c", k))
		}
		b.Run(question.what, func(b *testing.B) {
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				started := time.Now()
				for k := range clusters {
					verdicts[k] = pool.Judge(fmt.Sprint("c", k), pods[k], "")
					asked[k] = &verdicts[k]
				}
				Weigh(asked)
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
