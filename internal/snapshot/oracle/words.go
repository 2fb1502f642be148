package oracle

import (
	"cmp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// scriptPod is the pod that a command speaks of.
func scriptPod(t *testing.T, d *datadriven.TestData, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": value(d, "app")}}}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list(t, d)}}}
	if text := value(d, "port"); text != "" {
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			t.Fatalf("%s: port: %v", d.Pos, err)
		}
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: int32(number), HostPort: int32(number)}}
	}
	if owner := value(d, "owner"); owner != "" {
		yes := true
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: &yes}}
	}
	same := &metav1.LabelSelector{MatchLabels: map[string]string{"app": value(d, "app")}}
	pod.Name, pod.Namespace = cmp.Or(value(d, "name"), pod.Name), cmp.Or(value(d, "ns"), pod.Namespace)
	if via := value(d, "via"); via != "" {
		pod.Labels[keys.Upper], pod.Labels[keys.VirtualNode] = "us", via
	}
	term := func(key string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{LabelSelector: same, TopologyKey: key}}
	}
	pod.Spec.Affinity = &corev1.Affinity{}
	for _, key := range []string{"disk", "serial"} {
		if text := value(d, key); text != "" {
			pod.Spec.NodeSelector = map[string]string{key: text}
		}
	}
	if text := value(d, "tolerates"); text != "" {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Value: text}}
	}
	if key := value(d, "apart"); key != "" {
		pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(key)}
	}
	if key := value(d, "near"); key != "" {
		pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(key)}
	}
	if key := value(d, "nodes"); key != "" {
		has := []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpExists}}
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: has}},
		}}
	}
	if key := value(d, "spread"); key != "" {
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
			{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: same},
		}
	}
	return pod
}

// scriptAsking is the pod with what its virtual node says of it.
func scriptAsking(t *testing.T, d *datadriven.TestData, object *corev1.Pod) *Pod {
	pod := NewPod(object)
	if opens := value(d, "opens"); opens != "" {
		pod.OpenNamespaces = []string{opens}
	}
	if key := value(d, "nodes"); key != "" {
		has, err := labels.NewRequirement(key, selection.Exists, nil)
		if err != nil {
			t.Fatal(err)
		}
		pod.Part.Nodes = labels.NewSelector().Add(*has)
	}
	if text := value(d, "reserve"); text != "" {
		pod.Part.Reserve.Amount = FromList(corev1.ResourceList{"cpu": resource.MustParse(text)})
	}
	if text := value(d, "share"); text != "" {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		pod.Part.Reserve.Share = map[corev1.ResourceName]float64{"cpu": share}
	}
	return pod
}

// scriptLowerPod is a pod as it stands below.
func scriptLowerPod(t *testing.T, d *datadriven.TestData, name string) *corev1.Pod {
	pod := scriptPod(t, d, name)
	pod.Spec.NodeName, pod.Status.NominatedNodeName = value(d, "node"), value(d, "hint")
	if own := value(d, "own"); own != "" {
		pod.Labels[keys.Upper] = "us"
		pod.Annotations = map[string]string{keys.UpperUID: own}
	}
	if d.HasArg("finished") {
		pod.Status.Phase = corev1.PodSucceeded
	}
	if reason := value(d, "failed"); reason != "" {
		pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, reason
		pod.CreationTimestamp = metav1.Time{Time: time.Unix(1000, 0)}
	}
	if d.HasArg("ending") {
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	}
	if d.HasArg("gated") {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}}
	}
	if d.HasArg("unschedulable") {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	}
	if text := value(d, "priority"); text != "" {
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			t.Fatalf("%s: priority: %v", d.Pos, err)
		}
		priority := int32(number)
		pod.Spec.Priority = &priority
	}
	return pod
}

func scriptNode(t *testing.T, d *datadriven.TestData, name string) *corev1.Node {
	node := &corev1.Node{}
	_, node.Name, _ = strings.Cut(name, "/")
	node.Labels = map[string]string{"host": node.Name}
	if zone := value(d, "zone"); zone != "" {
		node.Labels["zone"] = zone
	}
	for _, key := range []string{"disk", "serial"} {
		if text := value(d, key); text != "" {
			node.Labels[key] = text
		}
	}
	if text := value(d, "taint"); text != "" {
		node.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: text, Effect: corev1.TaintEffectNoSchedule}}
	}
	if d.HasArg("leaving") {
		node.Spec.Taints = []corev1.Taint{{Key: removal[0], Effect: corev1.TaintEffectNoSchedule}}
	}
	node.Spec.Unschedulable = d.HasArg("cordoned")
	ready := corev1.ConditionTrue
	if d.HasArg("notready") {
		ready = corev1.ConditionFalse
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	node.Status.Allocatable = list(t, d)
	node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
	return node
}

// list reads cpu=, memory= and gpu= of a command.
func list(t *testing.T, d *datadriven.TestData) corev1.ResourceList {
	found := corev1.ResourceList{}
	for key, name := range map[string]corev1.ResourceName{"cpu": "cpu", "memory": "memory", "gpu": "nvidia.com/gpu"} {
		if text := value(d, key); text != "" {
			quantity, err := resource.ParseQuantity(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", d.Pos, key, err)
			}
			found[name] = quantity
		}
	}
	return found
}

func value(d *datadriven.TestData, key string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == key && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
	}
	return ""
}
