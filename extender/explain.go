package extender

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// explainWithin bounds the look at the API server for people who ask why.
const explainWithin = 2 * time.Second

// lookUp reads a pod and its namespace as they are now, also what the cache does not keep. Both may be nil.
func (e *Extender) lookUp(ctx context.Context, namespace, name string) (*corev1.Pod, *corev1.Namespace) {
	ctx, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	pod, err := e.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, nil
	}
	space, err := e.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return pod, nil
	}
	return pod, space
}

// situation says where a pod stands, and why the extender has or has not been asked about it. asked: it was, of this very pod.
func situation(pod *corev1.Pod, namespace *corev1.Namespace, virtualNodes []*corev1.Node, asked bool) (wire.Situation, string) {
	ours := translate.Marked(pod)
	switch {
	case snapshot.Finished(pod):
		return wire.Finished, fmt.Sprintf("The pod has ended, %s.", pod.Status.Phase)
	case pod.Spec.NodeName != "" && slices.ContainsFunc(virtualNodes, func(n *corev1.Node) bool { return n.Name == pod.Spec.NodeName }):
		return wire.Bound, placedText(pod)
	case pod.Spec.NodeName != "":
		return wire.Bound, fmt.Sprintf("The pod is bound to %s, which is a real node.", pod.Spec.NodeName)
	case !ours:
		return wire.NotOurs, notOursText(pod, namespace)
	case len(pod.Spec.SchedulingGates) > 0:
		return wire.Gated, "No scheduler looks at the pod until its scheduling gates are taken off: " + gateNames(pod) + "."
	case asked:
		return wire.Asked, ""
	}
	return wire.NotAsked, notAskedText(pod, virtualNodes)
}

func placedText(pod *corev1.Pod) string {
	text := fmt.Sprintf("The pod is bound to the virtual node %s", pod.Spec.NodeName)
	if node := pod.Annotations[keys.LowerNode]; node != "" {
		return text + " and runs on " + node + " there."
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == keys.LowerPlaced && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("%s, and has no node there: %s: %s", text, c.Reason, c.Message)
		}
	}
	return text + ", and has no node there yet."
}

// notOursText says why a pod was not marked.
func notOursText(pod *corev1.Pod, namespace *corev1.Namespace) string {
	const none = "The pod is none of Tessera's: "
	decision, told := seal.DecisionOf(pod)
	switch {
	case told && decision.Why != "":
		return none + decision.Why + "."
	case translate.OfDaemonSet(pod):
		return none + "pods of DaemonSets stay on real nodes."
	case pod.Labels[keys.Enabled] == "false":
		return none + "its label " + keys.Enabled + " says false."
	case slices.Contains(neverOurs, pod.Namespace):
		return none + "pods of this namespace never are."
	case namespace != nil && namespace.Labels[keys.Enabled] != "true":
		return none + "its namespace has not opted in. Label it " + keys.Enabled + "=true and create the pod anew."
	default:
		return none + "it was created before its namespace opted in, or while admission was away. Create it anew."
	}
}

// neverOurs are the namespaces that no webhook of ours is called about.
var neverOurs = []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, keys.Namespace}

func gateNames(pod *corev1.Pod) string {
	var names []string
	for _, gate := range pod.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return strings.Join(names, ", ")
}

// notAskedText says what kept kube-scheduler from asking about a pod: its own filters, or that it has not come to it.
func notAskedText(pod *corev1.Pod, virtualNodes []*corev1.Node) string {
	scheduled := corev1.PodCondition{}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			scheduled = c
		}
	}
	if scheduled.Status != corev1.ConditionFalse {
		return fmt.Sprintf("No scheduler has come to the pod yet. Does a scheduler of the name %q run?", pod.Spec.SchedulerName)
	}
	text := "kube-scheduler's own filters let the pod onto no virtual node, so the extender was not asked. It says: " + scheduled.Message
	if len(virtualNodes) == 0 {
		return text + " There is no virtual node."
	}
	if missing := missingLabels(pod, virtualNodes); len(missing) > 0 {
		text += " No virtual node has what its node selector asks for: " + strings.Join(missing, ", ") +
			". What is asked of lower nodes is sealed when a pod is created, or while it is gated; this was added in another way."
	} else if !slices.ContainsFunc(virtualNodes, func(n *corev1.Node) bool {
		fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n)
		return fits && err == nil
	}) {
		text += " No virtual node meets its required node affinity: name a cluster that exists, or leave keys of " + keys.Domain + " out."
	}
	return text
}

// missingLabels are the pairs of the node selector that no virtual node has.
func missingLabels(pod *corev1.Pod, nodes []*corev1.Node) []string {
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
		value := pod.Spec.NodeSelector[key]
		if !slices.ContainsFunc(nodes, func(n *corev1.Node) bool { return n.Labels[key] == value }) {
			missing = append(missing, key+"="+value)
		}
	}
	return missing
}
