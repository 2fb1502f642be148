package decisions

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// classes is how many kinds of pods are asked about.
const classes = 150

// namespace of the pods. There is none of that name below yet, so that nobody else's is in the way.
const namespace = "decisions"

// podOf is a pod of some 4 kB, as a Deployment has them. Those of one class differ in their names alone.
func podOf(class, number int) *corev1.Pod {
	app, yes := fmt.Sprintf("app-%03d", class), true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: fmt.Sprintf("%s-5d8f7c6b9-%05d", app, number),
		UID:         types.UID(fmt.Sprintf("%08d-0000-4000-8000-%012d", class, number)),
		Labels:      map[string]string{"app": app, "pod-template-hash": "5d8f7c6b9", "app.kubernetes.io/managed-by": "bench"},
		Annotations: map[string]string{"example.com/config": strings.Repeat("c", 600)},
		OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-5d8f7c6b9", UID: types.UID(app), Controller: &yes},
		},
	}}
	container := corev1.Container{
		Name: "main", Image: "registry.example.com/team/" + app + ":1.2.3", Args: []string{"--config=/etc/app/config.yaml", "--verbose"},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(100+50*(class%20)), resource.DecimalSI),
				corev1.ResourceMemory: *resource.NewQuantity(int64(64+class)<<20, resource.BinarySI),
				keys.PodResource:      resource.MustParse("1"),
			},
			Limits: corev1.ResourceList{keys.PodResource: resource.MustParse("1")},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: "/etc/app"}, {Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"},
		},
		LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
		}, PeriodSeconds: 10},
	}
	for i := range 20 {
		container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%02d", i), Value: strings.Repeat("v", 40)})
	}
	pod.Spec = corev1.PodSpec{
		Containers: []corev1.Container{container}, SchedulerName: "default-scheduler", ServiceAccountName: "default",
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: app},
			}}},
			{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}},
		},
	}
	return pod
}

// largeOf is podOf for a pod that no node takes.
func largeOf(class, number int) *corev1.Pod {
	pod := podOf(class, number)
	pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("5000")
	return pod
}
