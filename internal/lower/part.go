package lower

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// PartOf is what a virtual node with such rules stands for of its lower cluster. Its error names what cannot be read.
func PartOf(rules translate.Rules) (snapshot.Part, error) {
	var part snapshot.Part
	if rules.Nodes != "" {
		selector, err := labels.Parse(rules.Nodes)
		if err != nil {
			return part, fmt.Errorf("nodes: %q is no label selector such as pool=batch: %w", rules.Nodes, err)
		}
		part.Nodes = selector
	}
	amounts := corev1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(rules.Reserve)) {
		reserve, err := translate.ParseReserve(rules.Reserve[name])
		if err != nil {
			return snapshot.Part{}, fmt.Errorf("reserve: %s: %w", name, err)
		}
		if reserve.Share == 0 {
			amounts[name] = reserve.Amount
			continue
		}
		if part.Reserve.Share == nil {
			part.Reserve.Share = map[corev1.ResourceName]float64{}
		}
		part.Reserve.Share[name] = reserve.Share
	}
	part.Reserve.Amount = snapshot.FromList(amounts)
	return part, nil
}

// Apart reports whether no node can be in both parts, whatever labels it has.
func Apart(a, b snapshot.Part) bool {
	if a.Nodes == nil || b.Nodes == nil {
		return false
	}
	first, _ := a.Nodes.Requirements()
	second, _ := b.Nodes.Requirements()
	for _, one := range first {
		for _, other := range second {
			if one.Key() == other.Key() && (excludes(one, other) || excludes(other, one)) {
				return true
			}
		}
	}
	return false
}

// excludes reports whether no label that one asks for is one that the other asks for.
func excludes(one, other labels.Requirement) bool {
	switch one.Operator() {
	case selection.In, selection.Equals, selection.DoubleEquals:
		for _, value := range one.ValuesUnsorted() {
			if other.Matches(labels.Set{one.Key(): value}) {
				return false
			}
		}
		return true
	case selection.DoesNotExist:
		return !other.Matches(labels.Set{})
	default:
		return false
	}
}
