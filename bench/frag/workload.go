package frag

import (
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

const (
	// gpuShare is one thousandth of a GPU.
	gpuShare corev1.ResourceName = "example.com/gpu-share"
	// gpuModel is the label of a node with GPUs.
	gpuModel = "example.com/gpu-model"
)

// shape is a size of node or pod: thousandths of a core, MiB, thousandths of a GPU. models are the GPU models that a pod
// accepts; nil is any. A node has one.
type shape struct {
	cpu, memory, gpu int64
	models           []string
}

// weighted is a shape and how often it occurs.
type weighted struct {
	shape
	count int
}

// The openb nodes, without those that occur fewer than four times.
var nodeShapes = []weighted{
	{shape{96000, 393216, 8000, []string{"G2"}}, 549}, {shape{104000, 524288, 2000, []string{"T4"}}, 387},
	{shape{32000, 262144, 0, nil}, 129}, {shape{16000, 122880, 2000, []string{"P100"}}, 107}, {shape{96000, 524288, 0, nil}, 59},
	{shape{128000, 786432, 8000, []string{"G3"}}, 39}, {shape{96000, 393216, 0, nil}, 30},
	{shape{32000, 131072, 4000, []string{"V100M16"}}, 28}, {shape{32000, 131072, 0, nil}, 23},
	{shape{64000, 262144, 2000, []string{"P100"}}, 22}, {shape{64000, 524288, 0, nil}, 22},
	{shape{96000, 786432, 8000, []string{"V100M32"}}, 21}, {shape{104000, 524288, 0, nil}, 20},
	{shape{8000, 32768, 1000, []string{"V100M16"}}, 19}, {shape{96000, 393216, 4000, []string{"T4"}}, 17},
	{shape{32000, 65536, 0, nil}, 10}, {shape{48000, 376832, 4000, []string{"V100M32"}}, 9}, {shape{64000, 262144, 0, nil}, 8},
	{shape{64000, 262144, 8000, []string{"V100M16"}}, 7}, {shape{64000, 131072, 0, nil}, 4},
}

// The twelve most frequent openb pods as they are, then round shapes for the rest of each group: whole GPU, shared GPU,
// no GPU, several GPUs.
var podShapes = []weighted{
	{shape{3152, 5600, 810, nil}, 1047}, {shape{11300, 49152, 1000, nil}, 857}, {shape{11400, 48128, 1000, nil}, 534},
	{shape{3152, 5600, 1000, nil}, 470}, {shape{11908, 47104, 470, nil}, 388}, {shape{12500, 57344, 0, nil}, 364},
	{shape{8000, 30517, 470, nil}, 360}, {shape{32000, 49152, 0, nil}, 284}, {shape{18708, 64512, 1000, nil}, 255},
	{shape{11908, 47104, 650, nil}, 237}, {shape{9810, 41560, 1000, nil}, 195}, {shape{8000, 30517, 0, nil}, 163},
	{shape{8000, 16384, 1000, nil}, 500}, {shape{12000, 24576, 1000, nil}, 600}, {shape{16000, 65536, 1000, nil}, 500},
	{shape{4000, 16384, 320, nil}, 600}, {shape{6000, 12288, 460, nil}, 446}, {shape{16000, 49152, 0, nil}, 277},
	{shape{16000, 65536, 2000, nil}, 16}, {shape{32000, 131072, 4000, nil}, 15}, {shape{64000, 262144, 8000, nil}, 44},
}

// workload is what every policy gets: the same clusters, the same pods, the same times.
type workload struct {
	clusters [][]*corev1.Node // by cluster; node names are unique over all of them
	pods     []arrival
}

// arrival is a pod and its times.
type arrival struct {
	pod      *corev1.Pod
	asked    *snapshot.Pod
	class    string // pods of one class ask for the same
	at       time.Duration
	lifetime time.Duration // from its start below; 0 is for ever
}

// podsPerNode is the demand that fills the openb nodes to about 130 % of their GPUs.
const podsPerNode = 7

// newWorkload draws the world of the options, from their seed alone.
func newWorkload(o Options) (*workload, error) {
	random := rand.New(rand.NewPCG(uint64(o.Seed), 0x7e55e7a))
	nodes := func() shape { return draw(random, nodeShapes) }
	pods := func() shape { return draw(random, podShapes) }
	if o.Trace != "" {
		trace, err := readTrace(o.Trace)
		if err != nil {
			return nil, err
		}
		nodes, pods = cycle(trace.nodes), cycle(trace.pods)
		if o.Nodes == 0 {
			o.Nodes = len(trace.nodes) / o.Clusters
		}
	}
	if o.Nodes == 0 {
		o.Nodes = defaultNodes
	}
	if o.Pods == 0 {
		o.Pods = podsPerNode * o.Nodes * o.Clusters
	}
	w := &workload{clusters: make([][]*corev1.Node, o.Clusters)}
	for i := range o.Nodes * o.Clusters { // In turn, so that a trace's kinds of nodes are in every cluster.
		cluster := i % o.Clusters
		w.clusters[cluster] = append(w.clusters[cluster], newNode(fmt.Sprintf("lower-%d-node-%04d", cluster+1, i/o.Clusters+1), nodes()))
	}
	var at time.Duration
	for i := range o.Pods {
		at += time.Duration(random.ExpFloat64() / o.Rate * float64(time.Second))
		w.pods = append(w.pods, newArrival(fmt.Sprintf("pod-%05d", i+1), pods(), at))
		if o.Lifetime > 0 {
			w.pods[i].lifetime = time.Duration(random.ExpFloat64() * float64(o.Lifetime))
		}
	}
	return w, nil
}

func draw(random *rand.Rand, from []weighted) shape {
	total := 0
	for _, w := range from {
		total += w.count
	}
	at := random.IntN(total)
	for _, w := range from {
		if at -= w.count; at < 0 {
			return w.shape
		}
	}
	return shape{}
}

// cycle gives the shapes in their order, over and over.
func cycle(shapes []shape) func() shape {
	next := 0
	return func() shape {
		next++
		return shapes[(next-1)%len(shapes)]
	}
}

func newNode(name string, s shape) *corev1.Node {
	node := &corev1.Node{}
	node.Name = name
	if len(s.models) > 0 {
		node.Labels = map[string]string{gpuModel: s.models[0]}
	}
	node.Status.Allocatable = s.resources()
	node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return node
}

func (s shape) resources() corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(s.cpu, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(s.memory<<20, resource.BinarySI),
	}
	if s.gpu > 0 {
		list[gpuShare] = *resource.NewQuantity(s.gpu, resource.DecimalSI)
	}
	return list
}

func newArrival(name string, s shape, at time.Duration) arrival {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace, pod.UID = name, "default", types.UID(name)
	pod.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: s.resources()}}}
	if len(s.models) > 0 {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: gpuModel, Operator: corev1.NodeSelectorOpIn, Values: s.models}},
			}}},
		}}
	}
	return arrival{pod: pod, asked: snapshot.NewPod(pod), class: fmt.Sprint(s), at: at}
}
