package mutate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// Bounds of what is sealed: a pod beyond them costs every decision about it too much.
const (
	mostTerms = 200
	mostBytes = 64 << 10 // of JSON
)

// wholeOf returns all that a new pod demands. If it has a seal, it is one of a pod that came by before, a copy, or somebody's own making;
// nobody can tell which, so it counts beside what the spec says beyond it.
func wholeOf(pod *corev1.Pod) (seal.Constraints, error) {
	whole, err := read(pod)
	if err != nil || !seal.Sealed(pod) {
		return whole, err
	}
	return whole.And(seal.Of(pod).Without(whole.Above(whole.Policy(pod.Annotations[keys.Policy]))))
}

// read returns what was sealed, if it is within bounds together with what the spec says: putting both together costs the product.
func read(pod *corev1.Pod) (seal.Constraints, error) {
	spec := seal.Of(pod)
	if size := len(pod.Annotations[keys.Sealed]); size > mostBytes {
		return spec, tooManyBytes(size)
	}
	whole, err := seal.Unseal(pod)
	if err != nil {
		return whole, err
	}
	for _, part := range []seal.Constraints{spec, whole} {
		if terms := part.Terms(); terms > 2*mostTerms { // Under some policies each term is there twice.
			return whole, tooManyTerms(terms)
		}
	}
	return whole, nil
}

func tooManyTerms(terms int) error {
	return fmt.Errorf("the pod has %d terms of affinity and spread, more than %d: use fewer", terms, mostTerms)
}

func tooManyBytes(size int) error {
	return fmt.Errorf("the pod's selectors, affinity and spread have %d bytes, more than %d: use fewer", size, mostBytes)
}

// complete adds what admission itself gives below.
func (s Settings) complete(whole seal.Constraints, architecture string) seal.Constraints {
	whole.UpperKeys, whole.Standard = s.UpperKeys, nil
	if architecture != "" && !whole.Names(corev1.LabelArchStable) {
		whole.Standard = map[string]string{corev1.LabelArchStable: architecture}
	}
	return whole
}

// bounded checks what has been sealed.
func bounded(whole seal.Constraints, sealed *corev1.Pod) error {
	if terms := whole.Terms(); terms > mostTerms {
		return tooManyTerms(terms)
	}
	if size := len(sealed.Annotations[keys.Sealed]); size > mostBytes {
		return tooManyBytes(size)
	}
	return nil
}

// Reseal returns what becomes of an update of a sealed pod that is still gated: whoever opens the gate may narrow where it goes, and what
// speaks of lower nodes is sealed as well. The seal is made of the old one and what was added; a new one that comes along, from a call
// before this one or by somebody's hand, counts beside it. What else admission wrote stays as it was. Its error is for the user.
func Reseal(old, pod *corev1.Pod) (*corev1.Pod, error) {
	if len(old.Spec.SchedulingGates) == 0 || !seal.Sealed(old) {
		return pod, nil
	}
	if err := checkToken(pod); err != nil {
		return nil, err
	}
	before, err := seal.Unseal(old)
	if err != nil {
		return nil, err
	}
	was, is := seal.Of(old), seal.Of(pod)
	whole, err := narrowed(before, was, is, pod)
	if err != nil {
		return nil, err
	}
	kept := pod.DeepCopy()
	for _, key := range slices.Concat(written, reports) {
		if value, there := old.Annotations[key]; there {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		} else {
			delete(kept.Annotations, key)
		}
	}
	if err := whole.Note(kept); err != nil {
		return nil, err
	}
	if err := bounded(whole, kept); err != nil {
		return nil, err
	}
	policy := before.Policy(old.Annotations[keys.Policy])
	above := whole.Above(policy)
	selected := above.NodeSelector
	above.NodeSelector = was.NodeSelector
	above.Spread, above.PodAffinity, above.PodAntiAffinity = is.Spread, is.PodAffinity, is.PodAntiAffinity // Nobody may change these.
	if policy == keys.PolicyOnly {
		above.NodeSelector = seal.Union(was.NodeSelector, selected)
	}
	if was.Required != nil {
		above.Required = appended(before, was.Required, is.Required, is.Without(was).NodeSelector, policy)
	}
	above.Write(kept)
	return kept, valid(whole)
}

// narrowed returns all that a gated pod demands now, by its old seal, its spec before and after, and the seal that comes along.
func narrowed(before, was, is seal.Constraints, pod *corev1.Pod) (seal.Constraints, error) {
	whole, err := before.And(is.Without(was))
	if err != nil {
		return whole, err
	}
	if seal.Sealed(pod) {
		incoming, err := read(pod)
		if err != nil {
			return whole, err
		}
		if whole, err = whole.And(incoming.Without(before)); err != nil {
			return whole, err
		}
	}
	whole.Preferred = slices.DeleteFunc(slices.Clone(whole.Preferred), func(p corev1.PreferredSchedulingTerm) bool {
		gone := seal.Constraints{Preferred: []corev1.PreferredSchedulingTerm{p}}
		return gone.Without(is).Terms() > 0 && gone.Without(was).Terms() == 0 // It was there and has been taken off.
	})
	if whole.Standard != nil && whole.Names(corev1.LabelArchStable) {
		whole.Standard = nil
	}
	return whole, nil
}

// written are the annotations of a pod that admission writes, beside its seal.
var written = []string{keys.Policy, keys.ClusterOrder, keys.Decision, keys.Tolerations}

// appended returns the required terms as they were, each with what was added to it, so far as it means something above: a gated pod's
// terms can only be added to. Terms for virtual nodes learn what speaks of clusters, terms for real ones everything.
func appended(whole seal.Constraints, was, is *corev1.NodeSelector, selected map[string]string, policy string) *corev1.NodeSelector {
	if is == nil || len(is.NodeSelectorTerms) != len(was.NodeSelectorTerms) {
		return is // The API server refuses it.
	}
	result := was.DeepCopy()
	for i := range result.NodeSelectorTerms {
		term := &result.NodeSelectorTerms[i]
		real := !slices.ContainsFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool {
			return e.Key == seal.Virtual.Key && e.Operator == seal.Virtual.Operator
		})
		more := is.NodeSelectorTerms[i].MatchExpressions[min(len(term.MatchExpressions), len(is.NodeSelectorTerms[i].MatchExpressions)):]
		if policy != keys.PolicyOnly {
			more = slices.Concat(more, seal.Equal(selected))
		}
		for _, e := range more {
			if real || whole.MeansClusters(e.Key) {
				term.MatchExpressions = append(term.MatchExpressions, e)
			}
		}
		if real {
			term.MatchFields = is.NodeSelectorTerms[i].MatchFields
		}
	}
	return result
}
