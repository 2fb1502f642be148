package lower

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

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
