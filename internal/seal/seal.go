package seal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Sealed reports whether the pod has been sealed.
func Sealed(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[keys.Sealed]
	return ok
}

// Unseal returns what was sealed: what the user wrote, and what admission gave below. Of a pod that is not sealed it is what the spec
// says.
func Unseal(pod *corev1.Pod) (Constraints, error) {
	text, ok := pod.Annotations[keys.Sealed]
	if !ok {
		return Of(pod), nil
	}
	var whole Constraints
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		return whole, fmt.Errorf("reading annotation %s: %w", keys.Sealed, err)
	}
	return whole, nil
}

// Seal returns a copy of the pod with these constraints in its annotation, and in its spec what the policy leaves above.
func (c Constraints) Seal(pod *corev1.Pod, policy string) (*corev1.Pod, error) {
	sealed := pod.DeepCopy()
	if err := c.Note(sealed); err != nil {
		return nil, err
	}
	c.Above(policy).Write(sealed)
	return sealed, nil
}

// Note writes the annotation.
func (c Constraints) Note(pod *corev1.Pod) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("sealing constraints: %w", err)
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, keys.Sealed, string(text))
	return nil
}

// Above is what stays in the spec of a sealed pod.
//
// Under `only` that is what speaks of clusters, in selectors and preferences of nodes, and every term asks for a virtual node.
//
// Under other policies real nodes say what they said before: with a node selector N, each required term T_i stays as (T_i AND N AND
// real), beside what it asks of virtual nodes, (U_i AND virtual); see Below for U. What is preferred stays, and so does anti-affinity:
// virtual nodes have no label of such a topology and no pod is in their way. Affinity to pods and even spread have no such form
// (see OnBoth).
func (c Constraints) Above(policy string) Constraints {
	if policy != keys.PolicyOnly {
		kept := c
		kept.NodeSelector, kept.Required, kept.Standard, kept.UpperKeys = nil, c.eitherTerms(), nil, nil
		return kept
	}
	return Constraints{
		NodeSelector: c.selector(c.MeansClusters), Required: c.upperTerms(nil),
		Preferred: filter(c.Preferred, func(p corev1.PreferredSchedulingTerm) bool {
			return len(p.Preference.MatchFields) == 0 && !slices.ContainsFunc(p.Preference.MatchExpressions, c.meansNodes)
		}),
	}
}

// Policy returns the policy under which a pod is sealed that asks for one: what is demanded over clusters is judged over virtual nodes, so
// such a pod goes to those only.
func (c Constraints) Policy(asked string) string {
	if asked == "" || c.OverClusters().Demands().Terms() > 0 {
		return keys.PolicyOnly
	}
	return asked
}

// OnBoth reports whether a pod may go to real and to virtual nodes. One that demands something of where other pods are may not: a
// virtual node would be held to it above as a whole. Anti-affinity may, over the topologies of nodes.
func (c Constraints) OnBoth() bool {
	demands := c.OverNodes().Demands()
	return demands.PodAffinity == nil && len(demands.Spread) == 0
}

// eitherTerms are the terms for real nodes and those for virtual ones. nil where any node will do.
func (c Constraints) eitherTerms() *corev1.NodeSelector {
	if c.Required == nil && len(c.NodeSelector) == 0 {
		return nil
	}
	selected := Equal(c.NodeSelector)
	either := &corev1.NodeSelector{}
	for _, term := range c.alternatives() {
		either.NodeSelectorTerms = append(either.NodeSelectorTerms, corev1.NodeSelectorTerm{
			MatchExpressions: slices.Concat(term.MatchExpressions, selected, []corev1.NodeSelectorRequirement{Real}), MatchFields: term.MatchFields,
		})
	}
	ofClusters := filter(selected, func(e corev1.NodeSelectorRequirement) bool { return !c.meansNodes(e) })
	for _, term := range c.upperTerms(ofClusters).NodeSelectorTerms {
		if !isNothing(term) || len(either.NodeSelectorTerms) == 0 {
			either.NodeSelectorTerms = append(either.NodeSelectorTerms, term)
		}
	}
	return either
}

// Virtual and Real are met by virtual nodes and by all others.
var (
	Virtual = corev1.NodeSelectorRequirement{Key: keys.Cluster, Operator: corev1.NodeSelectorOpExists}
	Real    = corev1.NodeSelectorRequirement{Key: keys.Cluster, Operator: corev1.NodeSelectorOpDoesNotExist}
)

// alternatives are the required terms without those that match nothing; one that asks nothing if nothing is required.
func (c Constraints) alternatives() []corev1.NodeSelectorTerm {
	if c.Required == nil {
		return []corev1.NodeSelectorTerm{{}}
	}
	return filter(c.Required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool { return !MatchesNothing(t) })
}

// upperTerms are the terms U_i, each with the demand for a virtual node and with what else is asked of it, equal ones once.
func (c Constraints) upperTerms(also []corev1.NodeSelectorRequirement) *corev1.NodeSelector {
	upper := &corev1.NodeSelector{}
	seen := map[string]bool{}
	for _, term := range c.alternatives() {
		kept := slices.Concat(filter(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool { return !c.meansNodes(e) }),
			also, []corev1.NodeSelectorRequirement{Virtual})
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

func (c Constraints) meansNodes(e corev1.NodeSelectorRequirement) bool {
	return !c.MeansClusters(e.Key)
}

// Equal returns a node selector in the form of expressions.
func Equal(selector map[string]string) []corev1.NodeSelectorRequirement {
	expressions := make([]corev1.NodeSelectorRequirement, 0, len(selector))
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		expressions = append(expressions, corev1.NodeSelectorRequirement{
			Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{selector[key]},
		})
	}
	return expressions
}

func isNothing(term corev1.NodeSelectorTerm) bool {
	return len(term.MatchExpressions) == len(nothing.MatchExpressions) && fmt.Sprint(term) == fmt.Sprint(nothing)
}
