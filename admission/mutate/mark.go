package mutate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Mark returns a new pod as one of Tessera's: sealed under its policy, tolerating virtual nodes, and asking for tessera.sh/pod so that
// kube-scheduler calls the extender. The argument is not changed. Warnings are for the user, as is the error, which names the key and what
// to do.
//
// Marking a marked pod changes nothing, unless another webhook has added constraints since: those are sealed too. Left alone are pods that
// no scheduler places, pods of DaemonSets, which their controller pins to one node, pods that opted out, and those that may go to real
// nodes and demand what cannot be asked of real and virtual nodes at once.
func Mark(pod *corev1.Pod, namespace string, settings Settings) (marked *corev1.Pod, warnings []string, err error) {
	if exempt(pod) {
		return pod, nil, nil
	}
	if err := check(pod); err != nil {
		return nil, nil, err
	}
	given, err := settings.settle(pod, namespace)
	if err != nil {
		return nil, nil, err
	}
	whole, err := wholeOf(pod)
	if err != nil {
		return nil, nil, err
	}
	whole = settings.complete(whole, given.architecture)
	decision := seal.Decision{Marked: true, From: given.from}
	switch policy := whole.Policy(given.policy); {
	case policy != given.policy:
		decision.Why = "affinity and spread over clusters are judged over virtual nodes, so the pod goes to those alone"
		warnings = append(warnings, fmt.Sprintf("%s: under %q %s", keys.Policy, given.policy, decision.Why))
	case policy != keys.PolicyOnly && !whole.OnBoth():
		return settings.leave(pod, given, decision)
	}
	marked, err = settings.mark(pod, whole, given, decision)
	return marked, warnings, err
}

// leave returns the pod unmarked, for real nodes alone, as the user wrote it.
func (s Settings) leave(pod *corev1.Pod, given *settled, decision seal.Decision) (*corev1.Pod, []string, error) {
	decision.Marked = false
	decision.Why = fmt.Sprintf("under policy %s the pod may go to real nodes, and required pod affinity or topology spread over nodes cannot "+
		"be asked of real and virtual nodes at once, so it stays on real nodes: give it the policy %s to have it on virtual ones",
		given.policy, keys.PolicyOnly)
	left, err := Restore(pod, s.Standard)
	if err != nil {
		return nil, nil, err
	}
	if before, known := seal.DecisionOf(pod); left == pod && known && before.Why == decision.Why {
		return pod, []string{decision.Why}, nil
	}
	left = left.DeepCopy()
	return left, []string{decision.Why}, decision.Write(left)
}

func (s Settings) mark(pod *corev1.Pod, whole seal.Constraints, given *settled, decision seal.Decision) (*corev1.Pod, error) {
	policy := whole.Policy(given.policy)
	marked, err := whole.Seal(pod, policy)
	if err != nil {
		return nil, err
	}
	if err := bounded(whole, marked); err != nil {
		return nil, err
	}
	if err := valid(whole); err != nil {
		return nil, err
	}
	if marked.Spec.SchedulerName, err = s.scheduler(pod); err != nil {
		return nil, err
	}
	if s.SchedulerName != "" && marked.Spec.SchedulerName == s.SchedulerName {
		decision.From["schedulerName"] = seal.FromConfig
	}
	for _, key := range reports {
		delete(marked.Annotations, key)
	}
	marked.Annotations[keys.Policy] = given.policy
	delete(marked.Annotations, keys.ClusterOrder)
	if given.order != "" {
		marked.Annotations[keys.ClusterOrder] = given.order
	}
	if err := decision.Write(marked); err != nil {
		return nil, err
	}
	if !covered(marked.Spec.Tolerations) {
		marked.Spec.Tolerations = append(marked.Spec.Tolerations, toleration)
	}
	tolerations := translate.TolerationsOf(marked)
	if policy == keys.PolicyOnly { // Nothing of ours is written to what may run on a real node.
		tolerations.Endure(corev1.TaintNodeUnreachable, nil, s.Standard)
		tolerations.Ignore(corev1.TaintNodeNetworkUnavailable) // Where a cloud makes routes it finds none for a virtual node.
	}
	tolerations.Write(marked)
	setMarker(&marked.Spec.Containers[0])
	return marked, nil
}

// reports are annotations by which Tessera says what became of a pod. A copy of the pod has them, too, where they mean nothing.
var reports = []string{keys.LowerNode, keys.LowerIP, keys.HintNode, keys.Wake}

// noNetwork is what tolerations.Ignore adds where a cloud makes routes.
var noNetwork = corev1.Toleration{
	Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule,
}

var toleration = corev1.Toleration{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}

// exempt reports whether the pod is none of Tessera's business although its namespace opted in.
func exempt(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" ||
		pod.Labels[keys.Enabled] == "false" ||
		translate.OfDaemonSet(pod) ||
		len(pod.Spec.Containers) == 0 // The API server will refuse it with a better text than ours.
}

// check refuses what a user cannot mean.
func check(pod *corev1.Pod) error {
	if err := checkToken(pod); err != nil {
		return err
	}
	for _, gate := range pod.Spec.SchedulingGates {
		if strings.HasPrefix(gate.Name, keys.Domain) {
			return fmt.Errorf("scheduling gate %s: Tessera writes it, users may not: remove it", gate.Name)
		}
	}
	return checkMarker(pod)
}

func checkToken(pod *corev1.Pod) error {
	text, said := pod.Annotations[keys.Token]
	if !said {
		return nil
	}
	_, err := translate.ParseToken(text)
	return err
}

// checkMarker refuses an amount of the marker: no node has any, so the pod would wait for ever.
func checkMarker(pod *corev1.Pod) error {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			for _, list := range []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits} {
				if quantity, set := list[keys.PodResource]; set && !quantity.IsZero() {
					return fmt.Errorf("resource %s of container %s: Tessera sets it, and to 0: remove it", keys.PodResource, c.Name)
				}
			}
		}
	}
	return nil
}

// setMarker asks for none of tessera.sh/pod: kube-scheduler looks at the key alone to decide whether to call the
// extender. Requests and limits of an extended resource have to be equal.
func setMarker(c *corev1.Container) {
	for _, list := range []*corev1.ResourceList{&c.Resources.Requests, &c.Resources.Limits} {
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		if _, set := (*list)[keys.PodResource]; !set {
			(*list)[keys.PodResource] = resource.MustParse("0")
		}
	}
}

// covered reports whether the taint of every virtual node is tolerated, whatever its value.
func covered(tolerations []corev1.Toleration) bool {
	for _, t := range tolerations {
		if t.Operator == corev1.TolerationOpExists && (t.Key == "" || t.Key == keys.VirtualTaint) && noSchedule(t) {
			return true
		}
	}
	return false
}

func noSchedule(t corev1.Toleration) bool {
	return t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule
}
