package down

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// note is what stands on a lower pod of what was last brought down: checksums of its changeable fields, of its containers' sizes, and of
// the spec that it was made from, and the keys of the user's labels and annotations. It is one annotation, for each costs every API server
// and every watcher something with every write.
type note struct {
	fields, sizes, spec string
	labels, annotations []string
}

// leave puts the note on a pod: three checksums, and the keys of labels and of annotations, separated by commas, with spaces between.
func (n note) leave(lower *corev1.Pod) {
	text := strings.Join([]string{n.fields, n.sizes, n.spec, strings.Join(n.labels, ","), strings.Join(n.annotations, ",")}, " ")
	metav1.SetMetaDataAnnotation(&lower.ObjectMeta, keys.BroughtDown, text)
}

// noteOf is the note on a lower pod, the zero note where there is none or somebody has spoilt it.
func noteOf(lower *corev1.Pod) note {
	parts := strings.Split(lower.Annotations[keys.BroughtDown], " ")
	if len(parts) != 5 {
		return note{}
	}
	return note{
		fields: parts[0], sizes: parts[1], spec: parts[2], labels: strings.Split(parts[3], ","), annotations: strings.Split(parts[4], ","),
	}
}

// MadeFrom reports whether two stamped pods were made from equal specs.
func MadeFrom(lower, wanted *corev1.Pod) bool {
	spec := noteOf(lower).spec
	return spec != "" && spec == noteOf(wanted).spec
}

// usersKeys are the keys that are not Tessera's, sorted.
func usersKeys(set map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(set)), func(key string) bool { return strings.HasPrefix(key, keys.Domain) })
}
