package extender_test

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod makes a random pod in which each feature turns up now and then.
func (a *agreement) pod(name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: a.one(spaceA, spaceA, spaceB, spaceLimited, spaceQuota), Labels: map[string]string{"app": a.one("web", "db", "batch")},
	}}
	spec := &pod.Spec
	spec.TerminationGracePeriodSeconds = new(int64)
	spec.Containers = []corev1.Container{a.container("main")}
	if a.chance(0.2) {
		spec.Containers = append(spec.Containers, a.container("second"))
	}
	if a.chance(0.2) {
		spec.InitContainers = []corev1.Container{a.container("init")}
		if a.chance(0.5) {
			always := corev1.ContainerRestartPolicyAlways
			spec.InitContainers[0].RestartPolicy = &always
		}
	}
	if a.chance(0.1) {
		spec.Containers[0].Resources.Requests["example.com/gpu"] = quantities("n", a.one("1", "2"))["n"]
		spec.Containers[0].Resources.Limits = corev1.ResourceList{"example.com/gpu": spec.Containers[0].Resources.Requests["example.com/gpu"]}
	}
	if a.chance(0.05) {
		spec.Containers[0].Resources.Requests["example.com/fpga"] = quantities("n", a.one("1", "2", "3"))["n"]
		spec.Containers[0].Resources.Limits = corev1.ResourceList{"example.com/fpga": spec.Containers[0].Resources.Requests["example.com/fpga"]}
	}
	if a.chance(0.15) {
		spec.NodeSelector = map[string]string{"disk": a.one("ssd", "hdd", "tape")}
	}
	if a.chance(0.3) {
		spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
	}
	if a.chance(0.2) {
		port := corev1.ContainerPort{ContainerPort: 80, HostPort: []int32{80, 81}[a.random.IntN(2)], Protocol: corev1.ProtocolTCP, HostIP: a.one("", "", "127.0.0.1")}
		spec.Containers[0].Ports = []corev1.ContainerPort{port}
	}
	if pod.Namespace == spaceA && a.chance(0.15) {
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: a.one(a.claims...)},
		}}}
	}
	a.company(pod)
	return pod
}

// company adds what the pod says of other pods.
func (a *agreement) company(pod *corev1.Pod) {
	term := func() []corev1.PodAffinityTerm {
		t := corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": a.one("web", "db", "batch")}},
			TopologyKey:   a.one(corev1.LabelHostname, "zone", "disk"),
		}
		switch a.random.IntN(4) {
		case 0:
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}
		case 1:
			t.Namespaces = []string{spaceA, spaceLimited}
		}
		return []corev1.PodAffinityTerm{t}
	}
	affinity := &corev1.Affinity{}
	if a.chance(0.07) {
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term()}
	}
	if a.chance(0.1) {
		affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term()}
	}
	if a.chance(0.1) {
		affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpNotIn, Values: []string{a.one("x", "y")}}}},
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}},
			},
		}}
	}
	pod.Spec.Affinity = affinity
	if a.chance(0.2) {
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1 + int32(a.random.IntN(2)), TopologyKey: a.one(corev1.LabelHostname, "zone"), WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels},
		}}
	}
}

func (a *agreement) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "registry.k8s.io/pause:3.10.1"}
	c.Resources.Requests = quantities("cpu", a.one("100m", "500m", "1", "2", "3", "6"), "memory", a.one("64Mi", "512Mi", "2Gi"))
	if a.chance(0.1) {
		delete(c.Resources.Requests, corev1.ResourceCPU)
	}
	if a.chance(0.05) {
		c.Resources.Requests[corev1.ResourceEphemeralStorage] = quantities("n", "2Gi")["n"]
	}
	return c
}
