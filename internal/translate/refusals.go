package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Refusal is what is known of pods that a lower cluster refuses: all of one lower namespace that are alike.
type Refusal struct {
	Namespace string      `json:"namespace"`
	Pod       string      `json:"pod"` // Likeness of them
	Reason    keys.Reason `json:"reason"`
}

// Refusals are those of one virtual node, which virtualnode writes into the annotation tessera.sh/refused of the Node and the
// extender reads there.
type Refusals []Refusal

// RefusalsOf reads them from a virtual node. What cannot be read is nothing: it only keeps pods from going where they would be
// refused once more.
func RefusalsOf(node *corev1.Node) Refusals {
	var found Refusals
	if text := node.Annotations[keys.Refused]; text == "" || json.Unmarshal([]byte(text), &found) != nil {
		return nil
	}
	return found
}

// Text is what stands in the annotation, "" for none.
func (r Refusals) Text() string {
	if len(r) == 0 {
		return ""
	}
	text, _ := json.Marshal(r) // Strings always marshal.
	return string(text)
}

// Of is why a pod is refused as it would be below, "" if nothing is known against it.
func (r Refusals) Of(lower *corev1.Pod) keys.Reason {
	likeness := ""
	for _, one := range r {
		if one.Namespace != lower.Namespace {
			continue
		}
		if likeness == "" { // Most namespaces have no refusals, and need none made.
			likeness = Likeness(lower)
		}
		if one.Pod == likeness {
			return one.Reason
		}
	}
	return ""
}

// generated are labels that tell the pods of one controller, or its generations, from each other.
var generated = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name",
	"apps.kubernetes.io/pod-index", "controller-uid", "job-name",
}

// Likeness is equal for lower pods that a lower cluster takes or refuses alike: those of one template, also in the next rollout or
// the next run of a CronJob, as long as that stays the same. It is a hash of the pod without its name and what is made for it.
func Likeness(lower *corev1.Pod) string {
	own := func(key string) bool {
		return above(key) || strings.HasPrefix(key, "batch.kubernetes.io/") || slices.Contains(generated, key)
	}
	users := func(set map[string]string) map[string]string {
		kept := map[string]string{}
		for key, value := range set {
			if !own(key) {
				kept[key] = value
			}
		}
		return kept
	}
	spec := *lower.Spec.DeepCopy()
	spec.NodeName, spec.Hostname, spec.SchedulingGates, spec.Affinity = "", "", nil, withoutPods(spec.Affinity)
	spec.TopologySpreadConstraints = nil
	spec.Tolerations = slices.DeleteFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Effect == corev1.TaintEffectNoExecute })
	text, _ := json.Marshal(struct { // API types always marshal.
		Labels, Annotations map[string]string
		Spec                corev1.PodSpec
	}{users(lower.Labels), users(lower.Annotations), spec})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:hashLength]
}

// withoutPods is an affinity without what it says of other pods: its selectors name generations.
func withoutPods(affinity *corev1.Affinity) *corev1.Affinity {
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
	}}
}
