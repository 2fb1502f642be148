package demo

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// The stage: lower clusters of equal nodes, filled so that every total looks roomy while most holes are small.
const (
	lowerClusters = 3
	nodesEach     = 16
	namespace     = "demo"
)

// holeSizes lists, for each cluster, the free CPUs of its 16 nodes: 40, 40 and 44 in total. A shows as much room as
// the others, yet no hole of it is larger than 4.
var holeSizes = [lowerClusters][nodesEach]int64{
	{4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
	{8, 8, 4, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1},
	{8, 8, 8, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2},
}

// holes deals the sizes over the nodes in seeded random order. Memory stays in proportion (4 GiB a CPU).
func holes(seed int64) func(cluster, node int) (corev1.ResourceList, bool) {
	var order [lowerClusters][]int
	for k := range order {
		order[k] = rand.New(rand.NewPCG(uint64(seed), uint64(k))).Perm(nodesEach)
	}
	return func(cluster, node int) (corev1.ResourceList, bool) {
		return amounts(holeSizes[cluster-1][order[cluster-1][node-1]]), true
	}
}

// demand is how many pods of each number of CPUs ask for room: 113 CPUs of the 124 that are free.
var demand = []struct{ cpu, count int64 }{{8, 5}, {4, 7}, {2, 14}, {1, 17}}

// workload is the pods in the seeded random order of their creation.
func workload(seed int64) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, d := range demand {
		for i := range d.count {
			pods = append(pods, newPod(fmt.Sprintf("cpu%d-%02d", d.cpu, i+1), d.cpu))
		}
	}
	rand.New(rand.NewPCG(uint64(seed), 99)).Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	return pods
}

func newPod(name string, cpus int64) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name: "work", Image: "registry.k8s.io/pause:3.10.1",
				Resources: corev1.ResourceRequirements{Requests: amounts(cpus)},
			}},
		},
	}
}

// space is the namespace of the workload, opted in.
func space() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{keys.Enabled: "true"}}}
}

func amounts(cpus int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(cpus, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(cpus<<30, resource.BinarySI),
	}
}
