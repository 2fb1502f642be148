package seal

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Decision is what admission made of a pod, for people who ask. Its JSON is the annotation tessera.sh/decision.
type Decision struct {
	// Marked: the pod is Tessera's.
	Marked bool `json:"marked"`
	// From says where a setting comes from, FromPod, FromNamespace or FromConfig: "policy", "clusterOrder", "architecture",
	// "schedulerName".
	From map[string]string `json:"from,omitempty"`
	// Why is said where it is not as the settings have it.
	Why string `json:"why,omitempty"`
}

// Where settings come from.
const (
	FromPod       = "pod"
	FromNamespace = "namespace"
	FromConfig    = "config"
)

// DecisionOf reads the annotation of a pod; false if it has none that can be read.
func DecisionOf(pod *corev1.Pod) (Decision, bool) {
	var d Decision
	err := json.Unmarshal([]byte(pod.Annotations[keys.Decision]), &d)
	return d, err == nil
}

// Write puts the decision into the pod.
func (d Decision) Write(pod *corev1.Pod) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("writing annotation %s: %w", keys.Decision, err)
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, keys.Decision, string(text))
	return nil
}
