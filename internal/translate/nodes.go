package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// onNodes restricts required node affinity to the nodes that take part. Terms are alternatives, so each of them gets the
// whole restriction. Its error names a selector that cannot be read.
func (r Rules) onNodes(required *corev1.NodeSelector) (*corev1.NodeSelector, error) {
	selected, err := labels.ParseToRequirements(r.Nodes)
	if err != nil {
		return nil, fmt.Errorf("reading the node selector of the virtual node: %w", err)
	}
	if len(selected) == 0 {
		return required, nil
	}
	var ours []corev1.NodeSelectorRequirement
	for _, requirement := range selected {
		ours = append(ours, corev1.NodeSelectorRequirement{
			Key: requirement.Key(), Operator: nodeOperators[requirement.Operator()],
			Values: slices.Sorted(slices.Values(requirement.ValuesUnsorted())),
		})
	}
	if required == nil {
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: ours}}}, nil
	}
	restricted := &corev1.NodeSelector{}
	for _, term := range required.NodeSelectorTerms {
		restricted.NodeSelectorTerms = append(restricted.NodeSelectorTerms, corev1.NodeSelectorTerm{
			MatchExpressions: slices.Concat(term.MatchExpressions, ours), MatchFields: term.MatchFields,
		})
	}
	return restricted, nil
}

// nodeOperators are the operators of label selectors, as node affinity has them.
var nodeOperators = map[selection.Operator]corev1.NodeSelectorOperator{
	selection.Equals:       corev1.NodeSelectorOpIn,
	selection.DoubleEquals: corev1.NodeSelectorOpIn,
	selection.In:           corev1.NodeSelectorOpIn,
	selection.NotEquals:    corev1.NodeSelectorOpNotIn,
	selection.NotIn:        corev1.NodeSelectorOpNotIn,
	selection.Exists:       corev1.NodeSelectorOpExists,
	selection.DoesNotExist: corev1.NodeSelectorOpDoesNotExist,
	selection.GreaterThan:  corev1.NodeSelectorOpGt,
	selection.LessThan:     corev1.NodeSelectorOpLt,
}
