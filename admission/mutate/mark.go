package mutate

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Mark returns the pod as one of Tessera's under the policy `only`: sealed, tolerating virtual nodes, and asking for
// tessera.sh/pod so that kube-scheduler calls the extender. The argument is not changed.
//
// Marking a marked pod changes nothing, unless another webhook has added constraints since: those are sealed too.
// Left alone are pods that no scheduler places, pods of DaemonSets, which their controller pins to one node, and
// pods that opted out. An error is for the user: it names the key and what to do.
//
// standard is the time that the upper API server has pods tolerate a node that is out of reach if they say nothing: a virtual
// node that is unreachable only lacks its virtualnode for a while, and what runs on it runs on.
func Mark(pod *corev1.Pod, standard time.Duration) (*corev1.Pod, error) {
	if exempt(pod) {
		return pod, nil
	}
	if err := check(pod); err != nil {
		return nil, err
	}
	sealed, err := seal(pod)
	if err != nil {
		return nil, err
	}
	marked := sealed.DeepCopy()
	if !covered(marked.Spec.Tolerations) {
		marked.Spec.Tolerations = append(marked.Spec.Tolerations, toleration)
	}
	tolerations := translate.TolerationsOf(marked)
	tolerations.Endure(corev1.TaintNodeUnreachable, nil, standard)
	tolerations.Ignore(corev1.TaintNodeNetworkUnavailable) // Where a cloud makes routes it finds none for a virtual node.
	tolerations.Write(marked)
	setMarker(&marked.Spec.Containers[0])
	return marked, nil
}

var toleration = corev1.Toleration{Key: keys.VirtualTaint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}

// exempt reports whether the pod is none of Tessera's business although its namespace opted in.
func exempt(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" ||
		pod.Labels[keys.Enabled] == "false" ||
		translate.OfDaemonSet(pod) ||
		len(pod.Spec.Containers) == 0 // The API server will refuse it with a better text than ours.
}

// check refuses what Tessera does not do yet and what a user cannot mean.
func check(pod *corev1.Pod) error {
	switch policy, set := pod.Annotations[keys.Policy]; {
	case !set || policy == keys.PolicyOnly:
	case policy == "prefer" || policy == "overflow":
		return fmt.Errorf("annotation %s: %q is not supported yet: use %q", keys.Policy, policy, keys.PolicyOnly)
	default:
		return fmt.Errorf("annotation %s: %q is none of only, prefer, overflow (supported now: only)", keys.Policy, policy)
	}
	if text, said := pod.Annotations[keys.Token]; said {
		if _, err := translate.ParseToken(text); err != nil {
			return err
		}
	}
	for _, key := range []string{keys.LowerNode, keys.LowerIP, keys.HintNode} {
		if _, set := pod.Annotations[key]; set {
			return fmt.Errorf("annotation %s: Tessera writes it, users may not: remove it", key)
		}
	}
	// A marked pod comes back when another webhook has changed it. A user who forges the whole mark gets what a
	// node selector would have given as well.
	// The note of our tolerations is no secret, and who writes it by hand gets less below than he asks for.
	if whole := translate.Marked(pod) && covered(pod.Spec.Tolerations); translate.Sealed(pod) && !whole {
		return fmt.Errorf("annotation %s: Tessera writes it, users may not: remove it and use nodeSelector or affinity", keys.Sealed)
	}
	for _, gate := range pod.Spec.SchedulingGates {
		if strings.HasPrefix(gate.Name, keys.Domain) {
			return fmt.Errorf("scheduling gate %s: Tessera writes it, users may not: remove it", gate.Name)
		}
	}
	return checkMarker(pod)
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
