package virtualnode_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// A pod with a bit of everything, as the upper API server admits it, is translated and admitted by a lower one. What
// translation takes off is what the lower one would refuse. Nothing is stored: both are asked dry.
func TestTranslatedPodIsAdmittedBelow(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	below := w.lower(1)
	class := w.ns + "-class"
	classes(w, w.upper, class, 1000, "250m")
	classes(w, below, class, 10, "500m")
	rules := translate.Rules{
		NamespacePrefix: "translated-", SchedulerName: "other", Nodes: "pool in (a, b),!broken",
		Priority: translate.PrioritySame, Allow: []translate.Power{translate.HostPath},
	}
	lowerNamespace(w, below, rules.LowerNamespace(w.ns))

	upper, err := w.upper.CoreV1().Pods(w.ns).Create(t.Context(), everything(w, class), dry)
	if err != nil {
		t.Fatal(err)
	}
	upper.Spec.NodeName = w.lab.LowerName(1)
	if upper.Spec.Priority == nil || upper.Spec.PreemptionPolicy == nil || upper.Spec.Overhead == nil || len(upper.Spec.Volumes) < 6 {
		t.Fatalf("upper admission has not done its part: %+v", upper.Spec)
	}
	target := translate.Target{VirtualNode: w.lab.LowerName(1), Labels: map[string]string{keys.Cluster: w.lab.LowerName(1)}, Identity: "us", Rules: rules}
	lower, err := translate.LowerPod(upper, target)
	if err != nil {
		t.Fatal(err)
	}
	admitted, err := below.CoreV1().Pods(lower.Namespace).Create(t.Context(), lower, dry)
	if err != nil {
		t.Fatal(err)
	}
	cpu := admitted.Spec.Overhead[corev1.ResourceCPU]
	if admitted.Spec.PriorityClassName != class || *admitted.Spec.Priority != 10 || cpu.String() != "500m" {
		t.Errorf("class %s, priority %d, overhead %s", admitted.Spec.PriorityClassName, *admitted.Spec.Priority, cpu.String())
	}

	never := corev1.PreemptNever
	for name, change := range map[string]func(*corev1.PodSpec){
		"priority":        func(s *corev1.PodSpec) { s.Priority = upper.Spec.Priority },
		"overhead":        func(s *corev1.PodSpec) { s.Overhead = upper.Spec.Overhead },
		"never":           func(s *corev1.PodSpec) { s.PreemptionPolicy = &never },
		"never, no class": func(s *corev1.PodSpec) { s.PriorityClassName, s.PreemptionPolicy = "", &never },
		"label keys":      func(s *corev1.PodSpec) { s.TopologySpreadConstraints[0].MatchLabelKeys = []string{"app"} },
	} {
		refused := lower.DeepCopy()
		change(&refused.Spec)
		if _, err := below.CoreV1().Pods(lower.Namespace).Create(t.Context(), refused, dry); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%s is not what the lower API server refuses, so it need not be dropped: %v", name, err)
		}
	}
}

// A status that was told from below is one that the upper API server takes, shown addresses and hidden ones.
func TestTranslatedStatusIsTaken(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	upper := w.create(w.pod("p", 1, func(pod *corev1.Pod) { pod.Spec.SchedulerName = "nobody" }))
	lower, err := translate.LowerPod(upper, translate.Target{})
	if err != nil {
		t.Fatal(err)
	}
	lower.Generation = 3
	lower.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, ObservedGeneration: 3, QOSClass: corev1.PodQOSGuaranteed,
		HostIP: "10.0.0.1", HostIPs: []corev1.HostIP{{IP: "10.0.0.1"}}, PodIP: "10.1.0.1", PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "fd00::1"}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, ObservedGeneration: 3},
			{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred, ObservedGeneration: 2},
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", AllocatedResources: lower.Spec.Containers[0].Resources.Requests,
			Resources: &lower.Spec.Containers[0].Resources}},
	}
	for _, shown := range []bool{true, false} {
		w.eventually(func() (err error) { // The disruption controller writes too.
			current := w.get(w.upper, "p")
			current.Status = translate.UpperStatus(current, lower, shown)
			upper, err = w.upper.CoreV1().Pods(w.ns).UpdateStatus(t.Context(), current, metav1.UpdateOptions{})
			return err
		})
		if hasAddresses := upper.Status.PodIP != "" && upper.Status.HostIP != ""; hasAddresses != shown || upper.Status.ObservedGeneration != upper.Generation {
			t.Errorf("shown %t: addresses %q, %q; generation %d, observed %d",
				shown, upper.Status.PodIP, upper.Status.HostIP, upper.Generation, upper.Status.ObservedGeneration)
		}
	}
	if pending := conditionOf(upper.Status.Conditions, corev1.PodResizePending); pending.Status != corev1.ConditionTrue || pending.ObservedGeneration != 0 {
		t.Errorf("a condition of an older generation below: %+v", pending)
	}
}

var dry = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// classes makes a priority class and a runtime class of that name.
func classes(w *world, client kubernetes.Interface, name string, priority int32, overhead string) {
	w.Helper()
	_, err := client.SchedulingV1().PriorityClasses().Create(w.Context(),
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: priority}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	_, err = client.NodeV1().RuntimeClasses().Create(w.Context(), &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: "runc",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(overhead)}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "sandbox"}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error { // Admission knows a new class a moment later.
		pod := w.pod("probe", 1, func(pod *corev1.Pod) {
			pod.Namespace, pod.Spec.PriorityClassName = "default", name
			pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{} // Nobody asks for tessera.sh/pod in a namespace that takes no part.
		})
		_, err := client.CoreV1().Pods("default").Create(w.Context(), pod, dry)
		return err
	})
}

func lowerNamespace(w *world, client kubernetes.Interface, name string) {
	w.Helper()
	_, err := client.CoreV1().Namespaces().Create(w.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.eventually(func() error {
		_, err := client.CoreV1().ServiceAccounts(name).Get(w.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// everything is a pod that uses what admission and validation look at.
func everything(w *world, class string) *corev1.Pod {
	field := func(path string) *corev1.ObjectFieldSelector { return &corev1.ObjectFieldSelector{FieldPath: path} }
	always, one, template, name := corev1.ContainerRestartPolicyAlways, int64(1), "claims", "override.example.com"
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "web"}}
	requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), keys.PodResource: resource.MustParse("0")}
	return w.pod("everything", 1, func(pod *corev1.Pod) {
		pod.Labels[keys.Enabled], pod.Annotations = "true", map[string]string{keys.Policy: "only", "note": "x"}
		s := &pod.Spec
		s.PriorityClassName, s.RuntimeClassName, s.ActiveDeadlineSeconds, s.HostnameOverride = class, &class, &one, &name
		s.OS, s.ReadinessGates = &corev1.PodOS{Name: corev1.Linux}, []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
		s.ImagePullSecrets, s.HostAliases = []corev1.LocalObjectReference{{Name: "pull"}}, []corev1.HostAlias{{IP: "10.0.0.1", Hostnames: []string{"a"}}}
		s.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}
		s.ResourceClaims = []corev1.PodResourceClaim{{Name: "device", ResourceClaimTemplateName: &template}}
		s.SecurityContext = &corev1.PodSecurityContext{
			FSGroup: &one, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault},
		}
		term := corev1.PodAffinityTerm{TopologyKey: "zone", LabelSelector: selector, MatchLabelKeys: []string{"app"}, Namespaces: []string{w.ns}}
		s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
		s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone",
			WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector, MatchLabelKeys: []string{"app"}}}
		s.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "device"}}
		s.InitContainers = []corev1.Container{{Name: "side", Image: "side:1", RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: requests,
			Limits: corev1.ResourceList{keys.PodResource: resource.MustParse("0")}}}}
		var files []corev1.DownwardAPIVolumeFile
		for i, path := range []string{"metadata.labels", "metadata.annotations", "metadata.uid", "metadata.namespace", "metadata.labels['tessera.sh/enabled']",
			"metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']"} {
			files = append(files, corev1.DownwardAPIVolumeFile{Path: fmt.Sprint(i), FieldRef: field(path)})
			if i > 1 {
				s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprint("E", i), ValueFrom: &corev1.EnvVarSource{FieldRef: field(path)}})
			}
		}
		for _, path := range []string{"spec.serviceAccountName", "spec.nodeName", "status.podIP"} {
			s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: path, ValueFrom: &corev1.EnvVarSource{FieldRef: field(path)}})
		}
		for name, source := range map[string]corev1.VolumeSource{
			"downward": {DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: files}},
			"host":     {HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}},
			"secret":   {Secret: &corev1.SecretVolumeSource{SecretName: "s"}},
			"claim":    {PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}},
			"token": {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "them"}}}}},
		} {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		}
	})
}
