package snapshot

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// benchCluster has nodes of 64 CPUs with ten pods each; a tenth of the pods keep others of their app off their node.
func benchCluster(nodes int) *Snapshot {
	random := rand.New(rand.NewPCG(1, 2))
	content := Content{Cluster: "a", Own: map[types.UID]*LowerPod{}, Surroundings: Surroundings{Namespaces: Namespaces{"default": nil}}}
	for n := range nodes {
		name := fmt.Sprintf("node-%05d", n)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, "zone": strconv.Itoa(n % 3), "disk": []string{"ssd", "hdd"}[n%2],
		}}}
		node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("110")}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		var pods []*LowerPod
		for p := range 10 {
			pod := benchPod(strconv.Itoa(random.IntN(200)), strconv.Itoa(1+random.IntN(6)))
			pod.Spec.NodeName, pod.UID = name, types.UID(fmt.Sprint(n, "-", p))
			if random.IntN(10) == 0 {
				keepApart(pod)
			}
			pods = append(pods, NewLowerPod(pod, "us"))
		}
		content.Nodes = append(content.Nodes, NewNode(node, pods))
	}
	return New(content)
}

func benchPod(app, cpu string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", Labels: map[string]string{"app": app}}}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		"cpu": resource.MustParse(cpu), "memory": resource.MustParse("4Gi"),
	}}}}
	return pod
}

func keepApart(pod *corev1.Pod) {
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels}, TopologyKey: corev1.LabelHostname},
	}}}
}

// BenchmarkJudge asks one cluster about one pod. rows is the baseline: the same answer for a plain pod from one struct of
// amounts a node, as it was before the columns.
func BenchmarkJudge(b *testing.B) {
	for _, nodes := range []int{1_000, 10_000} {
		pool := NewPool()
		pool.Publish(time.Time{}, benchCluster(nodes))
		plain := NewPod(benchPod("new", "8"))
		selective := benchPod("new", "8")
		selective.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		lonely := benchPod("7", "8")
		keepApart(lonely)
		even := benchPod("7", "8")
		even.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 5, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: even.Labels},
		}}
		for name, pod := range map[string]*Pod{
			"plain": plain, "selector": NewPod(selective), "refused": NewPod(benchPod("new", "65")),
			"anti-affinity": NewPod(lonely), "spread": NewPod(even),
		} {
			b.Run(fmt.Sprintf("nodes=%d/%s", nodes, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					pool.Judge("a", pod, "")
				}
			})
		}
		b.Run(fmt.Sprintf("nodes=%d/rows", nodes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				byRows(pool, plain)
			}
		})
	}
}

func byRows(p *Pool, pod *Pod) (best string) {
	held, tightest := map[string]Resources{}, 0.0
	for _, node := range p.Snapshot("a").Nodes {
		room := node.Free().Minus(held[node.Name()])
		if !room.Fits(pod.Requests) || pod.refuses(node) != "" {
			continue
		}
		left := share(room.MilliCPU-pod.Requests.MilliCPU, p.scale.most.MilliCPU) + share(room.Memory-pod.Requests.Memory, p.scale.most.Memory)
		if best == "" || left < tightest {
			best, tightest = node.Name(), left
		}
	}
	return best
}

// BenchmarkPublish takes over a snapshot in which one node has changed.
func BenchmarkPublish(b *testing.B) {
	s := benchCluster(10_000)
	pool := NewPool()
	pool.Publish(time.Time{}, s)
	b.ReportAllocs()
	for b.Loop() {
		nodes := append([]*Node(nil), s.Nodes...)
		changed := *nodes[5]
		nodes[5] = &changed
		pool.Publish(time.Time{}, New(Content{Cluster: "a", Nodes: nodes, Own: s.Own, Surroundings: s.around}))
	}
}
