package objects

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

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

// above is the name of the object in the upper cluster.
func (k Key) above() string {
	if k.Reference == (translate.Reference{Kind: translate.KindConfigMap, Name: translate.RootCACopy}) {
		return translate.RootCA
	}
	return k.Name
}

// IndexAbove returns the function of the index ByObject for upper pods that go to a target.
func IndexAbove(target func() translate.Target) cache.IndexFunc {
	return func(object any) ([]string, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok || snapshot.Finished(pod) {
			return nil, nil
		}
		return texts(namedAbove(pod, target())), nil
	}
}

// IndexBelow is the function of the index ByObject for lower pods.
func IndexBelow(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok || snapshot.Finished(pod) {
		return nil, nil
	}
	return texts(namedBelow(pod)), nil
}

// namedAbove and namedBelow are the keys of what an upper pod names, and a lower one.
func namedAbove(pod *corev1.Pod, target translate.Target) []Key {
	return in(pod.Namespace, target.References(pod))
}

func namedBelow(pod *corev1.Pod) []Key {
	return in(pod.Annotations[keys.UpperNamespace], translate.References(&pod.Spec))
}

func in(namespace string, references []translate.Reference) []Key {
	found := make([]Key, 0, len(references))
	for _, reference := range references {
		found = append(found, Key{reference, namespace})
	}
	return found
}

func texts(keys []Key) []string {
	found := make([]string, 0, len(keys))
	for _, key := range keys {
		found = append(found, key.String())
	}
	return found
}
