package pair

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ByUpper indexes lower pods by the namespace/name of the upper pod they stand for.
const ByUpper = "upper"

// IndexByUpper is the function of the index ByUpper.
func IndexByUpper(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	return []string{UpperKey(pod)}, nil
}

// UpperKey is the key of the upper pod that a lower pod stands for.
func UpperKey(lower metav1.Object) string {
	annotations := lower.GetAnnotations()
	return annotations[keys.UpperNamespace] + "/" + annotations[keys.UpperName]
}

// Stands reports whether a pod is where translation puts the pod that it says it stands for. Whoever may create pods anywhere in the
// lower cluster can write our labels and annotations on one of theirs; such a pod is somebody else's.
func Stands(lower *corev1.Pod, lowerNamespace func(upper string) string) bool {
	namespace, name := lower.Annotations[keys.UpperNamespace], lower.Annotations[keys.UpperName]
	return name != "" && name == lower.Name && namespace != "" && lowerNamespace(namespace) == lower.Namespace
}

// UpperUID is the UID of the upper pod that a lower pod stands for.
func UpperUID(lower *corev1.Pod) types.UID { return types.UID(lower.Annotations[keys.UpperUID]) }

// KeyOf is the key of an upper pod.
func KeyOf(upper metav1.Object) string { return upper.GetNamespace() + "/" + upper.GetName() }

// Gated reports whether a lower pod waits behind our gate.
func Gated(lower *corev1.Pod) bool {
	return slices.ContainsFunc(lower.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == keys.HintGate })
}

// Indexed are lower pods with the index ByUpper. What it returns is shared: nobody may change it.
type Indexed interface {
	ByIndex(index, value string) ([]any, error)
}

// LowerOf is the lower pod of an upper one, found by its UID among those that carry the marks of an upper cluster and a virtual node; nil
// if there is none.
func LowerOf(below Indexed, upper *corev1.Pod, identity, node string) *corev1.Pod {
	found, err := below.ByIndex(ByUpper, KeyOf(upper))
	if err != nil {
		return nil
	}
	for _, object := range found {
		lower := object.(*corev1.Pod)
		if UpperUID(lower) == upper.UID && lower.Labels[keys.Upper] == identity && lower.Labels[keys.VirtualNode] == node {
			return lower
		}
	}
	return nil
}
