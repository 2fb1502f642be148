package admit

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// objectResource stands where an error names no resource.
var objectResource = schema.GroupResource{}

// Pod gives a new pod the defaults of an API server and of its admission.
func Pod(pod *corev1.Pod) error {
	if len(pod.Spec.Containers) == 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, pod.Name, field.ErrorList{
			field.Required(field.NewPath("spec", "containers"), ""),
		})
	}
	pod.Generation = 1
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	s := &pod.Spec
	if len(s.SchedulingGates) > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message:            "Scheduling is blocked due to non-empty scheduling gates",
			LastTransitionTime: metav1.Now().Rfc3339Copy(), ObservedGeneration: 1,
		}}
	}
	orElse(&s.RestartPolicy, corev1.RestartPolicyAlways)
	orElse(&s.DNSPolicy, corev1.DNSClusterFirst)
	orElse(&s.SchedulerName, corev1.DefaultSchedulerName)
	orElse(&s.ServiceAccountName, "default")
	s.DeprecatedServiceAccount = s.ServiceAccountName
	orElse(&s.TerminationGracePeriodSeconds, new(int64(30)))
	orElse(&s.SecurityContext, &corev1.PodSecurityContext{})
	orElse(&s.EnableServiceLinks, new(true))
	orElse(&s.Priority, new(int32(0)))
	orElse(&s.PreemptionPolicy, new(corev1.PreemptLowerPriority))
	for _, toleration := range objects.DefaultTolerations() {
		if !slices.ContainsFunc(s.Tolerations, func(t corev1.Toleration) bool { return tolerates(t, toleration) }) {
			s.Tolerations = append(s.Tolerations, toleration)
		}
	}
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			admitContainer(&containers[i])
		}
	}
	pod.Status.QOSClass = quality(s)
	return nil
}

// quality is the class of service of a pod: guaranteed if all its containers have limits for both resources that are all they ask
// for, best effort if none asks for anything.
func quality(s *corev1.PodSpec) corev1.PodQOSClass {
	asks, guaranteed := false, true
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := containers[i].Resources.Requests[name], containers[i].Resources.Limits[name]
				asks = asks || !request.IsZero() || !limit.IsZero()
				guaranteed = guaranteed && !limit.IsZero() && request.Cmp(limit) == 0
			}
		}
	}
	switch {
	case !asks:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func orElse[T comparable](value *T, otherwise T) {
	if *value == *new(T) {
		*value = otherwise
	}
}

// tolerates reports whether a toleration of a pod makes a default one unnecessary.
func tolerates(t, standard corev1.Toleration) bool {
	return (t.Key == standard.Key || t.Key == "" && t.Operator == corev1.TolerationOpExists) && (t.Effect == "" || t.Effect == standard.Effect)
}

func admitContainer(c *corev1.Container) {
	orElse(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	orElse(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	orElse(&c.ImagePullPolicy, corev1.PullIfNotPresent)
	for i := range c.Ports {
		orElse(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for name, limit := range c.Resources.Limits {
		if _, asked := c.Resources.Requests[name]; asked {
			continue
		}
		if c.Resources.Requests == nil {
			c.Resources.Requests = corev1.ResourceList{}
		}
		c.Resources.Requests[name] = limit
	}
}

// KeepPod leaves alone what a write to a subresource does not change, and refuses what a plain one must not.
func KeepPod(before, after *corev1.Pod, subresource string) error {
	wanted := after.Spec
	switch subresource {
	case "status":
		after.Spec = *before.Spec.DeepCopy()
		return nil
	case "binding":
		return nil
	case "resize":
		after.Spec = *before.Spec.DeepCopy()
		resize(after.Spec.Containers, wanted.Containers)
		resize(after.Spec.InitContainers, wanted.InitContainers)
		after.Spec.Resources = wanted.Resources
	case "ephemeralcontainers":
		after.Spec = *before.Spec.DeepCopy()
		after.Spec.EphemeralContainers = wanted.EphemeralContainers
		for i := range after.Spec.EphemeralContainers {
			common := (*corev1.Container)(&after.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			admitContainer(common)
		}
	default:
		if !equality.Semantic.DeepEqual(changeable(before, after).Spec, wanted) {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, before.Name, field.ErrorList{field.Forbidden(field.NewPath("spec"),
				"pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"+
					"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"+
					"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")})
		}
	}
	after.Status = *before.Status.DeepCopy()
	if !equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		after.Generation = before.Generation + 1
	}
	return nil
}

// changeable is the pod with those fields of another that a plain write may change.
func changeable(before, from *corev1.Pod) *corev1.Pod {
	pod := before.DeepCopy()
	to, wanted := &pod.Spec, &from.Spec
	if len(before.Spec.SchedulingGates) > 0 { // A pod that no scheduler looks at yet may be narrowed.
		to.SchedulingGates, to.NodeSelector, to.Affinity = wanted.SchedulingGates, wanted.NodeSelector, wanted.Affinity
	}
	to.ActiveDeadlineSeconds, to.Tolerations = wanted.ActiveDeadlineSeconds, wanted.Tolerations
	to.TerminationGracePeriodSeconds = wanted.TerminationGracePeriodSeconds
	for _, pair := range [][2][]corev1.Container{{to.Containers, wanted.Containers}, {to.InitContainers, wanted.InitContainers}} {
		for i := range min(len(pair[0]), len(pair[1])) {
			pair[0][i].Image = pair[1][i].Image
		}
	}
	return pod
}

func resize(containers, wanted []corev1.Container) {
	for i := range min(len(containers), len(wanted)) {
		containers[i].Resources = wanted[i].Resources
	}
}

// Bind puts a pod on a node.
func Bind(pod *corev1.Pod, node string, now time.Time) {
	pod.Spec.NodeName = node
	SetCondition(pod, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
}

// SetCondition sets a condition of a pod. One that says the same keeps its time.
func SetCondition(pod *corev1.Pod, condition corev1.PodCondition) {
	for i, before := range pod.Status.Conditions {
		if before.Type != condition.Type {
			continue
		}
		if before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
		pod.Status.Conditions[i] = condition
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}
