package extender

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// BenchmarkFilter asks about pods that have not been asked about before, without HTTP and JSON.
func BenchmarkFilter(b *testing.B) {
	for _, size := range []struct{ clusters, nodes int }{{100, 1_000}, {10, 10_000}} {
		e, names := benchWorld(b, size.clusters, size.nodes)
		for what, cpu := range map[string]string{"fits": "2", "refused": "500"} {
			b.Run(fmt.Sprintf("clusters=%d/nodes=%d/%s", size.clusters, size.nodes, what), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					pod := testPod(fmt.Sprint("p", i%1000), cpu)
					e.filter(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names})
				}
			})
		}
	}
}

// benchWorld is an extender that knows so many clusters of so many nodes, and the names of their virtual nodes.
func benchWorld(b *testing.B, clusters, nodes int) (e *Extender, names []string) {
	b.Helper()
	e = newExtender(DefaultConfig(), slog.New(slog.NewTextHandler(io.Discard, nil)), fake.NewClientset(), "test")
	e.ready.Store(true)
	random := rand.New(rand.NewPCG(1, 1))
	for k := range clusters {
		name := fmt.Sprint("c", k)
		e.addVirtualNode(b, name)
		e.join(b, name)
		names = append(names, name)
		content := snapshot.Content{Cluster: name}
		for n := range nodes {
			content.Nodes = append(content.Nodes, benchNode(n, random))
		}
		e.pool.Publish(time.Now(), snapshot.New(content))
	}
	return e, names
}

func benchNode(n int, random *rand.Rand) *snapshot.Node {
	name := fmt.Sprintf("node-%05d", n)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "zone": fmt.Sprint(n % 3)}}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("110")}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: types.UID(name)}}
	pod.Spec.NodeName = name
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		"cpu": *resource.NewQuantity(random.Int64N(64), resource.DecimalSI), "memory": *resource.NewQuantity(random.Int64N(256)<<30, resource.BinarySI),
	}}}}
	return snapshot.NewNode(node, []*snapshot.LowerPod{snapshot.NewLowerPod(pod, "test")})
}
