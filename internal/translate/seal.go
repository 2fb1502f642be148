package translate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Constraints are what Seal puts aside, whole and unchanged, so that the pair loses nothing. It is the JSON of
// the annotation tessera.sh/sealed. Tolerations and preferences are not in it: they stay on the pod.
type Constraints struct {
	NodeSelector map[string]string    `json:"nodeSelector,omitempty"`
	Required     *corev1.NodeSelector `json:"requiredNodeAffinity,omitempty"`
}

// Sealed reports whether the pod has been sealed.
func Sealed(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[keys.Sealed]
	return ok
}

// Seal returns a copy of the pod whose node selector and required node affinity speak of virtual nodes alone:
// keys of the domain tessera.sh stay, everything else is in the annotation, and every term asks for a virtual
// node. A sealed pod is returned as it is.
func Seal(pod *corev1.Pod) (*corev1.Pod, error) {
	if Sealed(pod) {
		return pod, nil
	}
	whole := constraints(pod)
	text, err := json.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("sealing constraints: %w", err)
	}
	sealed := pod.DeepCopy()
	metav1.SetMetaDataAnnotation(&sealed.ObjectMeta, keys.Sealed, string(text))
	sealed.Spec.NodeSelector = maps.Clone(whole.NodeSelector)
	maps.DeleteFunc(sealed.Spec.NodeSelector, func(key, _ string) bool { return !above(key) })
	setRequired(sealed, upperTerms(whole.Required))
	return sealed, nil
}

// Unseal is the inverse of Seal on the constraints: what the user wrote.
func Unseal(pod *corev1.Pod) (Constraints, error) {
	text, ok := pod.Annotations[keys.Sealed]
	if !ok {
		return constraints(pod), nil
	}
	var whole Constraints
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		return whole, fmt.Errorf("reading annotation %s: %w", keys.Sealed, err)
	}
	return whole, nil
}

// below returns the constraints for the lower cluster once a virtual node with these labels has been chosen.
//
// A required affinity is OR_i (U_i AND L_i), U above and L below. After the choice of v it is OR {L_i : U_i
// matches v}; splitting it into OR U_i above and OR L_i below would also allow U_1 with L_2. A field that names v is one of U: whoever
// looks at the Nodes above reads that name there.
func (c Constraints) below(virtualNode labels.Set) Constraints {
	lower := Constraints{NodeSelector: maps.Clone(c.NodeSelector)}
	maps.DeleteFunc(lower.NodeSelector, func(key, _ string) bool { return above(key) })
	if len(lower.NodeSelector) == 0 {
		lower.NodeSelector = nil
	}
	if c.Required == nil {
		return lower
	}
	lower.Required = &corev1.NodeSelector{}
	for _, term := range c.Required.NodeSelectorTerms {
		fields, met := fieldsBelow(term.MatchFields, virtualNode[keys.Cluster])
		if MatchesNothing(term) || !met || !matches(term.MatchExpressions, virtualNode) {
			continue // A term without any expression matches nothing, as in Kubernetes.
		}
		kept := corev1.NodeSelectorTerm{
			MatchExpressions: slices.DeleteFunc(slices.Clone(term.MatchExpressions), aboveExpression), MatchFields: fields,
		}
		if MatchesNothing(kept) {
			lower.Required = nil // This term asks nothing of the lower node: any will do.
			return lower
		}
		lower.Required.NodeSelectorTerms = append(lower.Required.NodeSelectorTerms, kept)
	}
	if len(lower.Required.NodeSelectorTerms) == 0 {
		lower.Required.NodeSelectorTerms = []corev1.NodeSelectorTerm{nothing}
	}
	return lower
}

// Where is equal for virtual nodes, by their labels, through which the same is asked of lower nodes.
func (c Constraints) Where(virtualNode labels.Set) string {
	if c.Required == nil {
		return ""
	}
	text, err := json.Marshal(c.below(virtualNode).Required)
	if err != nil { // Selectors always marshal.
		return virtualNode[keys.Cluster]
	}
	return string(text)
}

// fieldsBelow returns the fields that speak of lower nodes; met is false if one that names the virtual node does not hold.
func fieldsBelow(fields []corev1.NodeSelectorRequirement, virtualNode string) (kept []corev1.NodeSelectorRequirement, met bool) {
	for _, f := range fields {
		switch {
		case f.Key != metav1.ObjectNameField || virtualNode == "" || !slices.Contains(f.Values, virtualNode):
			kept = append(kept, f)
		case f.Operator == corev1.NodeSelectorOpIn:
		default:
			return nil, false
		}
	}
	return kept, true
}

// nothing is a term that no node meets; an empty list of terms would be refused by the API server.
var nothing = corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
	{Key: keys.Cluster, Operator: corev1.NodeSelectorOpExists},
	{Key: keys.Cluster, Operator: corev1.NodeSelectorOpDoesNotExist},
}}

func constraints(pod *corev1.Pod) Constraints {
	c := Constraints{NodeSelector: pod.Spec.NodeSelector}
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		c.Required = affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return c
}

// upperTerms are the terms U_i, each with the demand for a virtual node, equal ones once.
func upperTerms(required *corev1.NodeSelector) *corev1.NodeSelector {
	virtual := corev1.NodeSelectorRequirement{Key: keys.Cluster, Operator: corev1.NodeSelectorOpExists}
	terms := []corev1.NodeSelectorTerm{{}}
	if required != nil {
		terms = required.NodeSelectorTerms
	}
	upper := &corev1.NodeSelector{}
	seen := map[string]bool{}
	for _, term := range terms {
		if required != nil && MatchesNothing(term) {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(term.MatchExpressions),
			func(e corev1.NodeSelectorRequirement) bool { return !aboveExpression(e) })
		kept = append(kept, virtual)
		if key := fmt.Sprint(kept); !seen[key] {
			seen[key] = true
			upper.NodeSelectorTerms = append(upper.NodeSelectorTerms, corev1.NodeSelectorTerm{MatchExpressions: kept})
		}
	}
	if len(upper.NodeSelectorTerms) == 0 {
		upper.NodeSelectorTerms = []corev1.NodeSelectorTerm{nothing}
	}
	return upper
}

// setRequired sets or takes away the required node affinity and leaves no empty shells behind.
func setRequired(pod *corev1.Pod, required *corev1.NodeSelector) {
	affinity := pod.Spec.Affinity
	if required == nil && (affinity == nil || affinity.NodeAffinity == nil) {
		return
	}
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.NodeAffinity == nil {
		affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required
	if required == nil && len(affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		affinity.NodeAffinity = nil
	}
	if *affinity == (corev1.Affinity{}) {
		affinity = nil
	}
	pod.Spec.Affinity = affinity
}

func above(key string) bool { return strings.HasPrefix(key, keys.Domain) }

func aboveExpression(e corev1.NodeSelectorRequirement) bool { return above(e.Key) }

// MatchesNothing reports whether a term demands nothing: among alternatives it matches no node, not every one.
func MatchesNothing(term corev1.NodeSelectorTerm) bool {
	return len(term.MatchExpressions) == 0 && len(term.MatchFields) == 0
}

// matches reports whether the expressions that speak of virtual nodes hold for these labels. An expression that
// is not valid matches nothing.
func matches(expressions []corev1.NodeSelectorRequirement, set labels.Set) bool {
	for _, e := range expressions {
		if !aboveExpression(e) {
			continue
		}
		requirement, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
		if err != nil || !requirement.Matches(set) {
			return false
		}
	}
	return true
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}
