package exact_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// source makes objects that an API server would accept, small enough that every feature bites now and then.
type source struct{ *rand.Rand }

func (s *source) chance(share float64) bool { return s.Float64() < share }

func pick[T any](s *source, from ...T) T { return from[s.IntN(len(from))] }

func (s *source) now() time.Time { return time.Unix(1_700_000_000, 0) }

const gpu, hugepages = "example.com/gpu", "hugepages-2Mi"

func (s *source) node(name string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: s.labels()}}
	node.Spec.Unschedulable = s.chance(0.1)
	for range max(0, s.IntN(5)-2) {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
			Key: pick(s, "a", "b"), Value: pick(s, "", "1", "2"),
			Effect: pick(s, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
		})
	}
	node.Status.Allocatable = corev1.ResourceList{}
	s.put(node.Status.Allocatable, "cpu", 1, "500m", "4", "7900m", "16", "64")
	s.put(node.Status.Allocatable, "memory", 1, "512Mi", "16Gi", "64Gi", "64000000k")
	s.put(node.Status.Allocatable, "pods", 0.95, "0", "3", "6", "110", "110", "110")
	s.put(node.Status.Allocatable, "ephemeral-storage", 0.8, "1Gi", "10Gi", "100Gi")
	s.put(node.Status.Allocatable, gpu, 0.4, "0", "1", "8")
	s.put(node.Status.Allocatable, hugepages, 0.3, "64Mi")
	ready := corev1.ConditionTrue
	if s.chance(0.05) {
		ready = pick(s, corev1.ConditionFalse, corev1.ConditionUnknown)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return node
}

func (s *source) labels() map[string]string {
	labels := map[string]string{}
	for _, label := range [][]string{{"zone", "x", "y"}, {"disk", "ssd", "hdd"}, {"generation", "1", "3", "ten"}} {
		if s.chance(0.7) {
			labels[label[0]] = pick(s, label[1:]...)
		}
	}
	return labels
}

// put sets a resource with some chance to one of the amounts.
func (s *source) put(list corev1.ResourceList, name corev1.ResourceName, chance float64, amounts ...string) {
	if amount := pick(s, amounts...); s.chance(chance) {
		list[name] = resource.MustParse(amount)
	}
}

func (s *source) requests() corev1.ResourceList {
	list := corev1.ResourceList{}
	s.put(list, "cpu", 0.8, "0", "100m", "333m", "1", "2500m", "8")
	s.put(list, "memory", 0.7, "0", "1", "100Mi", "1Gi", "1500M", "8Gi")
	s.put(list, "ephemeral-storage", 0.1, "100Mi", "2Gi")
	s.put(list, gpu, 0.1, "0", "1", "2")
	s.put(list, hugepages, 0.04, "2Mi", "32Mi")
	s.put(list, "tessera.sh/pod", 0.3, "0")
	return list
}

// pod is a pod that asks.
func (s *source) pod(name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: uid(name)}}
	for i := range 1 + s.IntN(2) {
		pod.Spec.Containers = append(pod.Spec.Containers, s.container(fmt.Sprintf("c%d", i)))
	}
	if s.chance(0.3) {
		for i := range 1 + s.IntN(2) {
			container := s.container(fmt.Sprintf("i%d", i))
			if s.chance(0.4) {
				always := corev1.ContainerRestartPolicyAlways
				container.RestartPolicy = &always
			}
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, container)
		}
	}
	if s.chance(0.1) {
		pod.Spec.Overhead = corev1.ResourceList{}
		s.put(pod.Spec.Overhead, "cpu", 1, "50m", "250m")
		s.put(pod.Spec.Overhead, "memory", 1, "64Mi")
	}
	if s.chance(0.1) {
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: s.whole()}
	}
	for range s.IntN(3) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, s.toleration())
	}
	if s.chance(0.2) {
		pod.Spec.NodeSelector = map[string]string{pick(s, "zone", "disk"): pick(s, "x", "ssd")}
	}
	if s.chance(0.3) {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: s.nodeSelector(),
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{s.requirement()}}},
			},
		}}
	}
	return pod
}

// whole is what a pod asks for as a whole, whatever its containers ask for.
func (s *source) whole() corev1.ResourceList {
	list := corev1.ResourceList{}
	s.put(list, "cpu", 0.9, "500m", "3")
	s.put(list, "memory", 0.7, "200Mi", "2Gi")
	return list
}

func (s *source) container(name string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: s.requests()}}
}

func (s *source) toleration() corev1.Toleration {
	t := corev1.Toleration{
		Key:    pick(s, "a", "b", corev1.TaintNodeUnschedulable),
		Effect: pick(s, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule),
	}
	switch s.IntN(4) {
	case 0:
		t.Operator = corev1.TolerationOpExists
	case 1:
		t.Operator, t.Key = corev1.TolerationOpExists, ""
	case 2:
		t.Operator, t.Value = corev1.TolerationOpEqual, pick(s, "", "1", "2")
	case 3:
		t.Value = pick(s, "", "1", "2") // No operator means Equal.
	}
	return t
}

func (s *source) nodeSelector() *corev1.NodeSelector {
	selector := &corev1.NodeSelector{}
	for range 1 + s.IntN(2) {
		term := corev1.NodeSelectorTerm{}
		for range s.IntN(3) { // A term without any requirement matches nothing.
			term.MatchExpressions = append(term.MatchExpressions, s.requirement())
		}
		if s.chance(0.1) {
			term.MatchFields = []corev1.NodeSelectorRequirement{{
				Key: "metadata.name", Operator: pick(s, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{"node-03"},
			}}
		}
		selector.NodeSelectorTerms = append(selector.NodeSelectorTerms, term)
	}
	return selector
}

func (s *source) requirement() corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{
		Key: pick(s, "zone", "disk", "generation"),
		Operator: pick(s, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
			corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt),
	}
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = []string{pick(s, "x", "ssd", "3"), pick(s, "y", "hdd", "1")}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		r.Values = []string{pick(s, "0", "2", "5")}
	}
	return r
}

// running is a pod that is on a node: ended ones, terminating ones, and some in the middle of an in-place resize.
func (s *source) running(name, node string) *corev1.Pod {
	pod := s.pod(name)
	pod.Spec.NodeName = node
	pod.Status.Phase = pick(s, corev1.PodPending, corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed)
	if s.chance(0.1) {
		pod.DeletionTimestamp = &metav1.Time{Time: s.now()}
	}
	if s.chance(0.3) {
		s.resize(pod)
	}
	return pod
}

// resize gives the pod a status that differs from its spec, as while a resize is under way or infeasible.
func (s *source) resize(pod *corev1.Pod) {
	statuses := func(containers []corev1.Container) []corev1.ContainerStatus {
		var list []corev1.ContainerStatus
		for _, container := range containers {
			status := corev1.ContainerStatus{Name: container.Name, Resources: &corev1.ResourceRequirements{Requests: s.requests()}}
			if s.chance(0.7) {
				status.AllocatedResources = s.requests()
			}
			list = append(list, status)
		}
		return list
	}
	pod.Status.ContainerStatuses = statuses(pod.Spec.Containers)
	pod.Status.InitContainerStatuses = statuses(pod.Spec.InitContainers)
	if pod.Spec.Resources != nil {
		pod.Status.Resources = &corev1.ResourceRequirements{Requests: s.whole()}
		pod.Status.AllocatedResources = s.whole()
	}
	if s.chance(0.5) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: pick(s, corev1.PodReasonInfeasible, corev1.PodReasonDeferred),
		})
	}
}
