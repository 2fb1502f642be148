package objects

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// The states of a pod's row.
const (
	PodNew           = iota // nobody has looked at it
	PodUnschedulable        // the scheduler has found no node
	PodBound                // it has a node and does not run yet
	PodRunning
	PodEnding // it was deleted and still runs
)

// Pods makes the pods of a cluster.
type Pods struct{ *Cluster }

var _ rows.Maker = Pods{}

// Namespace implements rows.Maker.
func (p Pods) Namespace(r rows.Row) string { return p.apps[r.Shape].namespace }

// AppendName implements rows.Maker.
func (p Pods) AppendName(dst []byte, r rows.Row) []byte {
	a := &p.apps[r.Shape]
	dst = append(append(append(append(dst, a.name...), '-'), a.hash...), '-')
	return appendSuffix(dst, r.Serial)
}

// Labels are those of a pod. Nobody changes them.
func (p Pods) Labels(r rows.Row) labels.Set { return p.apps[r.Shape].labels }

// Field is what a field selector asks for; ok is false if there is no such field.
func (p Pods) Field(r rows.Row, name string) (value string, ok bool) {
	switch name {
	case "metadata.name":
		return string(p.AppendName(nil, r)), true
	case "metadata.namespace":
		return p.Namespace(r), true
	case "spec.nodeName":
		if r.Node < 0 {
			return "", true
		}
		return NodeName(uint32(r.Node)), true
	}
	return PodField(p.Object(r).(*corev1.Pod), name)
}

// PodField is what a field selector asks for of a pod.
func PodField(pod *corev1.Pod, name string) (value string, ok bool) {
	switch name {
	case "spec.nodeName":
		return pod.Spec.NodeName, true
	case "spec.restartPolicy":
		return string(pod.Spec.RestartPolicy), true
	case "spec.schedulerName":
		return pod.Spec.SchedulerName, true
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, true
	case "status.phase":
		return string(pod.Status.Phase), true
	case "status.podIP":
		return pod.Status.PodIP, true
	case "status.nominatedNodeName":
		return pod.Status.NominatedNodeName, true
	}
	return "", false
}

// Append appends the encoding of a pod.
func (p Pods) Append(dst []byte, r rows.Row, encoding Encoding) []byte {
	t := p.template(r, encoding)
	at := len(dst)
	dst = append(dst, t.text...)
	p.fill(dst[at:], t, uidPod, r, encoding)
	return dst
}

// Size is the length of that.
func (p Pods) Size(r rows.Row, encoding Encoding) int { return len(p.template(r, encoding).text) }

func (p Pods) template(r rows.Row, encoding Encoding) *template {
	return p.looks.of(uint64(r.Shape)<<16|uint64(r.State)<<8|uidPod, encoding, func() Object { return p.pod(r, marks) })
}

// Object makes a pod.
func (p Pods) Object(r rows.Row) Object { return p.pod(r, p.valuesOf(uidPod, r)) }

func at(seconds int64) metav1.Time { return metav1.NewTime(time.Unix(seconds, 0)) }

// pod is the pod of a look with values.
func (p Pods) pod(r rows.Row, v values) *corev1.Pod {
	a := &p.apps[r.Shape]
	set := a.name + "-" + a.hash
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: set + "-" + v.suffix, GenerateName: set + "-", Namespace: a.namespace, UID: types.UID(v.uid), ResourceVersion: v.version,
		Generation: 1, CreationTimestamp: at(v.born), Labels: a.labels,
		Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set, UID: types.UID(appendUID(nil, p.Seed, uidOwner, uint64(r.Shape))),
			Controller: new(true), BlockOwnerDeletion: new(true),
		}},
	}}
	pod.Spec = podSpec(a)
	pod.Status = podStatus(a, r.State, v)
	if r.State >= PodBound {
		pod.Spec.NodeName = nodePrefix + v.node
	}
	if r.State == PodEnding {
		end := at(v.end)
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, new(int64(30))
	}
	if !p.Lean {
		pod.ManagedFields = podManagers(r.State, v)
	}
	return pod
}

func podSpec(a *app) corev1.PodSpec {
	cpu := *resource.NewMilliQuantity(int64(a.asks.MilliCPU), resource.DecimalSI)
	memory := *resource.NewQuantity(int64(a.asks.MemoryMi)<<20, resource.BinarySI)
	probe := corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/healthz", Port: intstr.FromInt32(8080), Scheme: corev1.URISchemeHTTP,
		}},
		TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
	}
	return corev1.PodSpec{
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: a.name}, DefaultMode: new(int32(420)),
			}}},
			{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
		Containers: []corev1.Container{{
			Name: "main", Image: "registry.example.com/standin/" + a.name + ":1.4.2",
			Args:  []string{"--listen=:8080", "--config=/etc/app/config.yaml"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			Env: []corev1.EnvVar{
				{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}},
				{Name: "LOG_LEVEL", Value: "info"},
			},
			Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{corev1.ResourceMemory: memory},
				Requests: corev1.ResourceList{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory},
			},
			VolumeMounts:  []corev1.VolumeMount{{Name: "config", ReadOnly: true, MountPath: "/etc/app"}, {Name: "cache", MountPath: "/var/cache"}},
			LivenessProbe: &probe, ReadinessProbe: &probe,
			TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			ImagePullPolicy: corev1.PullIfNotPresent,
		}},
		RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: new(int64(30)), DNSPolicy: corev1.DNSClusterFirst,
		ServiceAccountName: "default", DeprecatedServiceAccount: "default", AutomountServiceAccountToken: new(false),
		SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: corev1.DefaultSchedulerName,
		Tolerations: DefaultTolerations(), Priority: new(int32(0)), EnableServiceLinks: new(true),
		PreemptionPolicy: new(corev1.PreemptLowerPriority),
	}
}

// DefaultTolerations are those that the admission of an API server adds.
func DefaultTolerations() []corev1.Toleration {
	return []corev1.Toleration{
		defaultToleration(corev1.TaintNodeNotReady), defaultToleration(corev1.TaintNodeUnreachable),
	}
}

func defaultToleration(key string) corev1.Toleration {
	return corev1.Toleration{
		Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300)),
	}
}

func podStatus(a *app, state uint8, v values) corev1.PodStatus {
	status := corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable}
	since := at(v.since)
	switch state {
	case PodUnschedulable:
		status.Conditions = []corev1.PodCondition{Unschedulable(at(v.born))}
	case PodBound:
		status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: since, ObservedGeneration: 1,
		}}
	case PodRunning, PodEnding:
		status.Phase, status.ObservedGeneration = corev1.PodRunning, 1
		status.Conditions = RunningConditions(since, nil)
		status.HostIP, status.PodIP, status.StartTime = hostNetwork+v.hostIP, podNetwork+v.podIP, &since
		status.HostIPs, status.PodIPs = []corev1.HostIP{{IP: status.HostIP}}, []corev1.PodIP{{IP: status.PodIP}}
		status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}}, Ready: true,
			Image: "registry.example.com/standin/" + a.name + ":1.4.2", Started: new(true),
			ImageID:     "registry.example.com/standin/" + a.name + "@sha256:" + strings.Repeat("5f70bf18a0860070", 4),
			ContainerID: "containerd://" + strings.Repeat("9b2d6c1e4a837f05", 4),
		}}
	}
	return status
}

// The first parts of addresses.
const (
	podNetwork  = "10."
	hostNetwork = "172."
)

// Unschedulable is the condition of a pod for which a scheduler has found no node.
func Unschedulable(now metav1.Time) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, LastTransitionTime: now,
		Message: "no node is available: the stand-in has looked at all of them", ObservedGeneration: 1,
	}
}

// RunningConditions are those of a pod that runs. Readiness gates of a pod decide on Ready with the conditions that it has.
func RunningConditions(since metav1.Time, scheduled *corev1.PodCondition) []corev1.PodCondition {
	var all []corev1.PodCondition
	for _, kind := range []corev1.PodConditionType{
		corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
	} {
		if kind == corev1.PodScheduled && scheduled != nil {
			all = append(all, *scheduled)
			continue
		}
		all = append(all, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: since, ObservedGeneration: 1})
	}
	return all
}

// PodIP is the address of a pod.
func PodIP(r rows.Row) string { return podNetwork + string(appendAddress(nil, 100, uint64(r.Serial))) }

// HostIP is the address of the node of a number.
func HostIP(node uint32) string { return hostNetwork + string(appendAddress(nil, 200, uint64(node))) }
