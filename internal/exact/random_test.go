package exact_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// source makes objects that an API server would accept, small enough that every feature bites now and then: nodes and
// namespaces here, pods in random_pod_test.go, what pods want of each other in random_company_test.go. It makes no
// claims and no volumes: internal/snapshot leaves those to the exact path.
type source struct{ *rand.Rand }

func newSource(seed uint64) *source { return &source{rand.New(rand.NewPCG(seed, 7))} }

func (s *source) chance(share float64) bool { return s.Float64() < share }

func pick[T any](s *source, from ...T) T { return from[s.IntN(len(from))] }

func (s *source) now() time.Time { return time.Unix(1_700_000_000, 0) }

func uid(name string) types.UID { return types.UID("uid-" + name) }

// put sets a resource with some chance to one of the amounts.
func (s *source) put(list corev1.ResourceList, name corev1.ResourceName, chance float64, amounts ...string) {
	if amount := pick(s, amounts...); s.chance(chance) {
		list[name] = resource.MustParse(amount)
	}
}

const gpu, hugepages = "example.com/gpu", "hugepages-2Mi"

// namespaces are the same in every cluster. Every API server labels a namespace with its name.
func namespaces() []*corev1.Namespace {
	space := func(name string, labels map[string]string) *corev1.Namespace {
		labels[corev1.LabelMetadataName] = name
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	return []*corev1.Namespace{
		space("default", map[string]string{}),
		space("red", map[string]string{"team": "red", "tier": "front"}),
		space("blue", map[string]string{"team": "blue"}),
	}
}

func (s *source) namespace() string { return pick(s, "default", "default", "red", "blue") }

// scenario is a cluster with the pods that run on its nodes, and nobody asking yet.
func (s *source) scenario() scenario {
	c := scenario{Namespaces: namespaces()}
	for i := range 1 + s.IntN(20) {
		node := s.node(fmt.Sprintf("node-%02d", i))
		if i > 0 && s.chance(0.4) {
			node = s.twin(node.Name, c.Nodes[s.IntN(i)])
		}
		c.Nodes = append(c.Nodes, node)
		var taken []corev1.ContainerPort // Two pods on one node cannot have the same.
		for j := range s.IntN(5) {
			pod := s.running(fmt.Sprintf("%s-pod-%d", node.Name, j), node.Name)
			taken = withoutConflicts(pod, taken)
			c.Pods = append(c.Pods, pod)
		}
	}
	c.Version = pick(s, "", "", "v1.36.3", "v1.34.4-vendor.7")
	return c
}

func (s *source) node(name string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: s.nodeLabels(name)}}
	for range pick(s, 0, 0, 0, 0, 0, 0, 1, 2) {
		node.Spec.Taints = s.taint(node.Spec.Taints, corev1.Taint{
			Key: pick(s, "a", "b"), Value: pick(s, "", "1", "2"),
			Effect: pick(s, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
		})
	}
	node.Status.Allocatable = s.allocatable()
	node.Status.Capacity = node.Status.Allocatable
	s.trouble(node)
	for _, feature := range []string{"FeatureOfALaterVersion", restartsAll, mapsUsers} {
		if s.chance(0.7) {
			node.Status.DeclaredFeatures = append(node.Status.DeclaredFeatures, feature)
		}
	}
	return node
}

// trouble is what comes over a node: a cordon, an autoscaler or a person that removes it, a kubelet that stops.
func (s *source) trouble(node *corev1.Node) {
	node.Spec.Unschedulable = s.chance(0.08)
	if s.chance(0.03) { // A pod that tolerates everything could still be put there.
		key := pick(s, "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted")
		node.Spec.Taints = s.taint(node.Spec.Taints, corev1.Taint{Key: key, Value: "1700000000", Effect: corev1.TaintEffectNoSchedule})
	}
	if s.chance(0.02) {
		node.DeletionTimestamp = &metav1.Time{Time: s.now()}
	}
	ready := corev1.ConditionTrue
	if s.chance(0.05) {
		ready = pick(s, corev1.ConditionFalse, corev1.ConditionUnknown)
		if s.chance(0.5) { // The node controller puts this on a moment later.
			node.Spec.Taints = s.taint(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
}

// twin is a node that its name and its size tell apart from another, and what has come over it.
func (s *source) twin(name string, of *corev1.Node) *corev1.Node {
	node := of.DeepCopy()
	node.Name = name
	if _, ok := node.Labels[corev1.LabelHostname]; ok {
		node.Labels[corev1.LabelHostname] = name
	}
	node.Status.Allocatable = s.allocatable()
	node.Status.Capacity = node.Status.Allocatable
	s.trouble(node)
	return node
}

// taint adds a taint, unless there is one of that key and effect already.
func (s *source) taint(taints []corev1.Taint, taint corev1.Taint) []corev1.Taint {
	for _, other := range taints {
		if other.MatchTaint(&taint) {
			return taints
		}
	}
	return append(taints, taint)
}

func (s *source) allocatable() corev1.ResourceList {
	list := corev1.ResourceList{}
	s.put(list, "cpu", 1, "500m", "4", "7900m", "16", "64", "64", "64")
	s.put(list, "memory", 1, "512Mi", "16Gi", "64Gi", "64000000k", "128Gi")
	s.put(list, "pods", 0.98, "0", "6", "110", "110", "110", "110", "110", "110")
	s.put(list, "ephemeral-storage", 0.9, "1Gi", "10Gi", "100Gi")
	s.put(list, gpu, 0.4, "0", "1", "8")
	s.put(list, hugepages, 0.3, "64Mi")
	return list
}

// nodeLabels leaves each label off some nodes: such a node is in no domain of that topology.
func (s *source) nodeLabels(name string) map[string]string {
	labels := map[string]string{}
	if s.chance(0.9) {
		labels[corev1.LabelHostname] = name
	}
	for _, label := range [][]string{{"zone", "x", "y", "z"}, {"disk", "ssd", "hdd"}, {"generation", "1", "3", "ten"}} {
		if s.chance(0.8) {
			labels[label[0]] = pick(s, label[1:]...)
		}
	}
	return labels
}
