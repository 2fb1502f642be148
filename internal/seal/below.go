package seal

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Below returns what lower nodes have to meet once a virtual node with these labels has been chosen.
//
// A required affinity is OR_i (U_i AND L_i), U about clusters and L about nodes. After the choice of v it is OR {L_i : U_i matches v};
// splitting it into OR U_i above and OR L_i below would also allow U_1 with L_2. A field that names v is one of U: whoever looks at the
// Nodes above reads that name there. What is demanded over all clusters is not in it (see OverClusters).
func (c Constraints) Below(virtualNode labels.Set) Constraints {
	lower := c.OverNodes()
	lower.NodeSelector = Union(c.selector(func(key string) bool { return !c.MeansClusters(key) }), c.Standard)
	lower.Required = c.requiredBelow(virtualNode)
	for _, preferred := range c.Preferred {
		kept, met := c.termBelow(preferred.Preference, virtualNode)
		switch {
		case MatchesNothing(preferred.Preference):
			lower.Preferred = append(lower.Preferred, preferred) // It has no weight anywhere.
		case met && !MatchesNothing(kept):
			lower.Preferred = append(lower.Preferred, corev1.PreferredSchedulingTerm{Weight: preferred.Weight, Preference: kept})
		}
	}
	return lower
}

// PreferredAbove is the weight of the preferred terms that speak of clusters alone, and that a virtual node with these labels meets.
func (c Constraints) PreferredAbove(virtualNode labels.Set) (weight int64) {
	for _, preferred := range c.Preferred {
		kept, met := c.termBelow(preferred.Preference, virtualNode)
		if met && MatchesNothing(kept) {
			weight += int64(preferred.Weight)
		}
	}
	return weight
}

// Where is equal for virtual nodes, by their labels, through which the same is asked of lower nodes.
func (c Constraints) Where(virtualNode labels.Set) string {
	if c.Required == nil && c.Preferred == nil {
		return ""
	}
	below := c.Below(virtualNode)
	text, err := json.Marshal(Constraints{Required: below.Required, Preferred: below.Preferred})
	if err != nil { // Selectors always marshal.
		return virtualNode[keys.Cluster]
	}
	return string(text)
}

// selector is the part of the node selector with these keys, nil if that is nothing.
func (c Constraints) selector(wanted func(key string) bool) map[string]string {
	kept := maps.Clone(c.NodeSelector)
	maps.DeleteFunc(kept, func(key, _ string) bool { return !wanted(key) })
	if len(kept) == 0 {
		return nil
	}
	return kept
}

func (c Constraints) requiredBelow(virtualNode labels.Set) *corev1.NodeSelector {
	if c.Required == nil {
		return nil
	}
	required := &corev1.NodeSelector{}
	for _, term := range c.Required.NodeSelectorTerms {
		kept, met := c.termBelow(term, virtualNode)
		switch {
		case !met:
		case MatchesNothing(kept):
			return nil // This term asks nothing of the lower node: any will do.
		default:
			required.NodeSelectorTerms = append(required.NodeSelectorTerms, kept)
		}
	}
	if len(required.NodeSelectorTerms) == 0 {
		required.NodeSelectorTerms = []corev1.NodeSelectorTerm{nothing}
	}
	return required
}

// termBelow returns the part of a term that speaks of lower nodes; met is false if the virtual node does not meet the rest. A term
// without any expression matches nothing, as in Kubernetes.
func (c Constraints) termBelow(term corev1.NodeSelectorTerm, virtualNode labels.Set) (kept corev1.NodeSelectorTerm, met bool) {
	if MatchesNothing(term) {
		return kept, false
	}
	for _, e := range term.MatchExpressions {
		switch {
		case !c.MeansClusters(e.Key):
			kept.MatchExpressions = append(kept.MatchExpressions, e)
		case !holds(e, virtualNode):
			return kept, false
		}
	}
	for _, f := range term.MatchFields {
		switch {
		case f.Key != metav1.ObjectNameField || virtualNode[keys.Cluster] == "" || !slices.Contains(f.Values, virtualNode[keys.Cluster]):
			kept.MatchFields = append(kept.MatchFields, f)
		case f.Operator != corev1.NodeSelectorOpIn:
			return kept, false
		}
	}
	return kept, true
}

// holds reports whether labels meet an expression. One that is not valid is met by none.
func holds(e corev1.NodeSelectorRequirement, set labels.Set) bool {
	requirement, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
	return err == nil && requirement.Matches(set)
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}

// nothing is a term that no node meets; an empty list of terms would be refused by the API server.
var nothing = corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
	{Key: keys.Cluster, Operator: corev1.NodeSelectorOpExists},
	{Key: keys.Cluster, Operator: corev1.NodeSelectorOpDoesNotExist},
}}

// MatchesNothing reports whether a term demands nothing: among alternatives it matches no node, not every one.
func MatchesNothing(term corev1.NodeSelectorTerm) bool {
	return len(term.MatchExpressions) == 0 && len(term.MatchFields) == 0
}
