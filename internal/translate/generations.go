package translate

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// generations says which generation of the lower pod stands for the current one of the upper pod; zero if none does.
//
// A client that changed an upper pod waits for status.observedGeneration to reach its change, so a generation is reported
// only when the whole of it is below. LowerPod notes the generation that it translates on the lower pod. What is brought
// down in calls of their own (sizes and ephemeral containers) is compared, because it may come later than the note.
type generations struct{ above, below int64 }

func generationsOf(upper, lower *corev1.Pod) generations {
	noted := int64(1)
	if text, ok := lower.Annotations[keys.UpperGeneration]; ok {
		noted, _ = strconv.ParseInt(text, 10, 64) // What cannot be read is 0.
	}
	if noted == 0 || noted != upper.Generation || !sameSizes(&upper.Spec, &lower.Spec) || !sameEphemeral(&upper.Spec, &lower.Spec) {
		return generations{}
	}
	return generations{above: upper.Generation, below: lower.Generation}
}

// upper is the generation of the upper pod that was seen with that of the lower one. Where it is not known it stays what
// was reported before, which the API server would keep anyway.
func (g generations) upper(lower, before int64) int64 {
	if lower == 0 || lower != g.below {
		return before
	}
	return g.above
}

// Resizable are the resources that may change while a pod runs.
var Resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// sameSizes reports whether the lower pod has the sizes that the upper one asks for. Others may have been added below.
func sameSizes(upper, lower *corev1.PodSpec) bool {
	if upper.Resources != nil && (lower.Resources == nil || !sameSize(*upper.Resources, *lower.Resources)) {
		return false
	}
	below := slices.Concat(lower.InitContainers, lower.Containers)
	for _, c := range slices.Concat(upper.InitContainers, upper.Containers) {
		at := slices.IndexFunc(below, func(b corev1.Container) bool { return b.Name == c.Name })
		if at < 0 || !sameSize(c.Resources, below[at].Resources) {
			return false
		}
	}
	return true
}

func sameSize(upper, lower corev1.ResourceRequirements) bool {
	for _, name := range Resizable {
		if !sameAmount(upper.Requests, lower.Requests, name) || !sameAmount(upper.Limits, lower.Limits, name) {
			return false
		}
	}
	return true
}

func sameAmount(upper, lower corev1.ResourceList, name corev1.ResourceName) bool {
	wanted, asked := upper[name]
	given, ok := lower[name]
	return !asked || (ok && wanted.Cmp(given) == 0)
}

// sameEphemeral reports whether the lower pod has all ephemeral containers of the upper one.
func sameEphemeral(upper, lower *corev1.PodSpec) bool {
	return !slices.ContainsFunc(upper.EphemeralContainers, func(c corev1.EphemeralContainer) bool {
		return !slices.ContainsFunc(lower.EphemeralContainers, func(b corev1.EphemeralContainer) bool { return b.Name == c.Name })
	})
}
