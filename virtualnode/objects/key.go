package objects

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// Key names an object of the upper cluster.
type Key struct {
	translate.Reference
	Namespace string
}

// String is such as "Secret/shop/password": the form in which a key waits in a queue and stands in an index.
func (k Key) String() string { return k.Kind + "/" + k.Namespace + "/" + k.Name }

func parseKey(text string) (Key, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return Key{}, fmt.Errorf("%q is no KIND/NAMESPACE/NAME", text)
	}
	return Key{translate.Reference{Kind: parts[0], Name: parts[2]}, parts[1]}, nil
}

// ByObject indexes pods by the objects they name, as keys of the upper cluster; pods that have finished need none.
const ByObject = "object"

// IndexAbove is the function of the index ByObject for upper pods.
func IndexAbove(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	return named(pod, pod.Namespace), nil
}

// IndexBelow is the function of the index ByObject for lower pods.
func IndexBelow(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	return named(pod, pod.Annotations[keys.UpperNamespace]), nil
}

func named(pod *corev1.Pod, namespace string) []string {
	if snapshot.Finished(pod) {
		return nil
	}
	var found []string
	for _, reference := range translate.References(&pod.Spec) {
		found = append(found, Key{reference, namespace}.String())
	}
	return found
}
