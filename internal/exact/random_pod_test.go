package exact_test

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Features that a node declares and a pod may need (NodeDeclaredFeatures).
const restartsAll, mapsUsers = "RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"

// pod is a pod that asks. It has what an API server fills in before anybody sees the pod.
func (s *source) pod(name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace(), UID: uid(name), Labels: s.podLabels()}}
	pod.Spec.HostNetwork = s.chance(0.08)
	for i := range 1 + s.IntN(2) {
		pod.Spec.Containers = append(pod.Spec.Containers, s.container(fmt.Sprintf("c%d", i)))
	}
	if s.chance(0.3) {
		for i := range 1 + s.IntN(2) {
			container := s.container(fmt.Sprintf("i%d", i))
			if s.chance(0.5) {
				container.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			}
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, container)
		}
	}
	if s.chance(0.1) {
		pod.Spec.Overhead = corev1.ResourceList{}
		s.put(pod.Spec.Overhead, "cpu", 1, "50m", "250m")
		s.put(pod.Spec.Overhead, "memory", 1, "64Mi")
	}
	if s.chance(0.06) {
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: s.whole()}
	}
	s.needFeatures(pod)
	s.wantNodes(pod)
	s.wantCompany(pod)
	s.takePorts(pod)
	return pod
}

func (s *source) podLabels() map[string]string {
	labels := map[string]string{}
	for _, label := range [][]string{{"app", "a", "b", "c"}, {"tier", "front", "back"}, {"version", "1", "2"}} {
		if s.chance(0.7) {
			labels[label[0]] = pick(s, label[1:]...)
		}
	}
	return labels
}

// whole is what a pod asks for as a whole: more than its containers may ask for together.
func (s *source) whole() corev1.ResourceList {
	list := corev1.ResourceList{}
	s.put(list, "cpu", 0.9, "16", "24")
	s.put(list, "memory", 0.7, "20Gi", "24Gi")
	if len(list) == 0 {
		s.put(list, "cpu", 1, "16")
	}
	return list
}

func (s *source) container(name string) corev1.Container {
	requests := s.requests()
	limits := corev1.ResourceList{}
	for resource, amount := range requests {
		if resource == hugepages || resource == gpu || resource == "tessera.sh/pod" { // No overcommit of these.
			limits[resource] = amount
		}
	}
	return corev1.Container{Name: name, Image: "image", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func (s *source) requests() corev1.ResourceList {
	list := corev1.ResourceList{}
	s.put(list, "cpu", 0.7, "0", "100m", "333m", "333m", "1", "2500m", "6")
	s.put(list, "memory", 0.6, "0", "1", "100Mi", "100Mi", "1Gi", "1500M", "6Gi")
	s.put(list, "ephemeral-storage", 0.07, "100Mi", "2Gi")
	s.put(list, gpu, 0.07, "0", "1", "2")
	s.put(list, "tessera.sh/pod", 0.3, "0")
	if _, ok := list["cpu"]; ok {
		s.put(list, hugepages, 0.04, "2Mi", "32Mi")
	}
	return list
}

func (s *source) needFeatures(pod *corev1.Pod) {
	if s.chance(0.1) {
		containers := pod.Spec.Containers
		if len(pod.Spec.InitContainers) > 0 && s.chance(0.5) {
			containers = pod.Spec.InitContainers
		}
		container := &containers[s.IntN(len(containers))]
		if container.RestartPolicy == nil {
			container.RestartPolicy = new(corev1.ContainerRestartPolicyNever)
		}
		container.RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action:    pick(s, corev1.ContainerRestartRuleActionRestartAllContainers, corev1.ContainerRestartRuleActionRestart),
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
		}}
	}
	if s.chance(0.07) {
		pod.Spec.HostUsers = new(s.chance(0.3))
		pod.Spec.HostNetwork = pod.Spec.HostNetwork || s.chance(0.5)
	}
}

// takePorts gives containers ports. A pod names a port of a protocol once.
func (s *source) takePorts(pod *corev1.Pod) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if !s.chance(0.2) {
				continue
			}
			for range 1 + s.IntN(2) {
				number := pick[int32](s, 80, 443, 8080)
				port := corev1.ContainerPort{ContainerPort: number, Protocol: pick(s, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)}
				if pod.Spec.HostNetwork || s.chance(0.7) {
					port.HostPort, port.HostIP = number, pick(s, "", "", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::1")
				}
				containers[i].Ports = append(containers[i].Ports, port)
			}
		}
	}
	withoutConflicts(pod, nil)
}

// withoutConflicts takes those ports off a pod that are taken already, by others or by itself, and returns all that are
// taken then.
func withoutConflicts(pod *corev1.Pod, taken []corev1.ContainerPort) []corev1.ContainerPort {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Ports = slices.DeleteFunc(containers[i].Ports, func(port corev1.ContainerPort) bool {
				conflict := slices.ContainsFunc(taken, func(other corev1.ContainerPort) bool {
					return other.HostPort == port.HostPort && other.Protocol == port.Protocol
				})
				if !conflict {
					taken = append(taken, port)
				}
				return conflict
			})
		}
	}
	return taken
}

// wantNodes gives a pod tolerations, a node selector and node affinity.
func (s *source) wantNodes(pod *corev1.Pod) {
	for range s.IntN(3) {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, s.toleration())
	}
	if s.chance(0.06) {
		pod.Spec.NodeSelector = map[string]string{pick(s, "zone", "disk"): pick(s, "x", "ssd")}
	}
	if s.chance(0.02) {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: pick(s, "node-01", "node-03")}
	}
	if s.chance(0.12) {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: s.nodeSelector(),
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{s.requirement()}}},
			},
		}}
	}
}

func (s *source) toleration() corev1.Toleration {
	t := corev1.Toleration{
		Key:    pick(s, "a", "b", "a", "b", corev1.TaintNodeUnschedulable, corev1.TaintNodeNotReady, "ToBeDeletedByClusterAutoscaler"),
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
		Key: pick(s, "zone", "zone", "disk", "disk", "generation", "generation", corev1.LabelHostname),
		Operator: pick(s, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
			corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt),
	}
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = []string{pick(s, "x", "ssd", "3", "node-02"), pick(s, "y", "hdd", "1", "node-04")}
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
