package extender

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/entry"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// compileAll reduces the pod once for every virtual node; nil where its sealed annotation or the node's rules cannot be read. Where
// the same would come of it, it is reduced once.
func (e *Extender) compileAll(pod *corev1.Pod, nodes []*corev1.Node) []*snapshot.Pod {
	pods := make([]*snapshot.Pod, len(nodes))
	known := map[likeness]*snapshot.Pod{}
	rules := map[string]*translate.Rules{}
	whole, err := seal.Unseal(pod)
	own := err != nil || speaksOfVirtualNodes(whole.OverNodes()) || speaksOfVirtualNodes(whole.OverClusters())
	for i, node := range nodes {
		text := node.Annotations[keys.Rules]
		if rules[text] == nil {
			target, _ := translate.TargetOf(node, e.identity) // What cannot be read fails below.
			rules[text] = &target.Rules
		}
		like := e.likeness(pod, node, whole, rules[text])
		if own {
			like.where = node.Name
		}
		if base := known[like]; base != nil {
			pods[i] = base.Via(node.Name)
			pods[i].Above = aboveOf(whole, node)
			continue
		}
		below, err := e.compileWhole(pod, whole, node)
		if err != nil {
			e.log.Warn("Reading a pod failed, a virtual node is refused",
				"namespace", pod.Namespace, "name", pod.Name, "node", node.Name, "err", err)
			continue
		}
		known[like], pods[i] = below, below
	}
	return pods
}

// likeness is equal for virtual nodes through which a pod comes out as the same, but for the label that names the node.
type likeness struct {
	rules, refused string // annotations
	where          string // what of the pod's node affinity goes below
	around         string // what the lower cluster makes of it
}

func (e *Extender) likeness(pod *corev1.Pod, node *corev1.Node, whole seal.Constraints, rules *translate.Rules) likeness {
	return likeness{
		rules: node.Annotations[keys.Rules], refused: node.Annotations[keys.Refused],
		where: whole.Where(node.Labels), around: e.aroundLike(pod, node.Labels[keys.Cluster], rules),
	}
}

// aroundLike says what of that which is around may change the pod: the cluster where something of its own does, as a LimitRange.
func (e *Extender) aroundLike(pod *corev1.Pod, cluster string, rules *translate.Rules) string {
	known, ok := e.around.Load(cluster)
	if !ok {
		return ""
	}
	around, namespace := known.(*lower.Around), rules.LowerNamespace(pod.Namespace)
	if pod.Spec.RuntimeClassName != nil || len(around.LimitRanges(namespace)) > 0 {
		return cluster
	}
	has, all := true, true
	if class := rules.PriorityClass(pod.Spec.PriorityClassName); class != "" {
		has, all = around.HasPriorityClass(class)
	}
	like := ""
	if around.Ending(namespace) {
		like = string(keys.NamespaceEnding)
	}
	if all && !has {
		like += string(keys.PriorityClass)
	}
	return like
}

// entriesOf counts the changes of what a lower cluster makes of pods.
func (e *Extender) entriesOf(cluster string) uint64 {
	if known, ok := e.around.Load(cluster); ok {
		return known.(*lower.Around).Entries()
	}
	return 0
}

// speaksOfVirtualNodes reports whether a term about other pods looks at the label that names a pod's virtual node.
func speaksOfVirtualNodes(whole seal.Constraints) bool {
	speaks := func(selector *metav1.LabelSelector, keysOfPod ...string) bool {
		if slices.Contains(keysOfPod, keys.VirtualNode) {
			return true
		}
		if selector == nil {
			return false
		}
		_, matched := selector.MatchLabels[keys.VirtualNode]
		return matched || slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == keys.VirtualNode
		})
	}
	term := func(t corev1.PodAffinityTerm) bool {
		return speaks(t.LabelSelector, append(slices.Clone(t.MatchLabelKeys), t.MismatchLabelKeys...)...)
	}
	preferred := func(terms []corev1.WeightedPodAffinityTerm) bool {
		return slices.ContainsFunc(terms, func(t corev1.WeightedPodAffinityTerm) bool { return term(t.PodAffinityTerm) })
	}
	if with := whole.PodAffinity; with != nil && (slices.ContainsFunc(with.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
		preferred(with.PreferredDuringSchedulingIgnoredDuringExecution)) {
		return true
	}
	if away := whole.PodAntiAffinity; away != nil && (slices.ContainsFunc(away.RequiredDuringSchedulingIgnoredDuringExecution, term) ||
		preferred(away.PreferredDuringSchedulingIgnoredDuringExecution)) {
		return true
	}
	return slices.ContainsFunc(whole.Spread, func(c corev1.TopologySpreadConstraint) bool {
		return speaks(c.LabelSelector, c.MatchLabelKeys...)
	})
}

// compile reduces the pod to what the lower cluster behind the node will make of it: translated, with the defaults of the
// namespace's LimitRanges, and with what the virtual node's rules say about where it may go.
func (e *Extender) compile(pod *corev1.Pod, node *corev1.Node) (*snapshot.Pod, error) {
	whole, err := seal.Unseal(pod)
	if err != nil {
		return nil, fmt.Errorf("reading a pod: %w", err)
	}
	return e.compileWhole(pod, whole, node)
}

// compileWhole is compile of a pod whose constraints have been unsealed.
func (e *Extender) compileWhole(pod *corev1.Pod, whole seal.Constraints, node *corev1.Node) (*snapshot.Pod, error) {
	target, err := translate.TargetOf(node, e.identity)
	if err != nil {
		return nil, err
	}
	part, err := lower.PartOf(target.Rules)
	if err != nil {
		return nil, fmt.Errorf("reading annotation %s of node %s: %w", keys.Rules, node.Name, err)
	}
	below, err := translate.LowerPod(pod, target)
	var denied *translate.NotAllowed
	switch {
	case errors.As(err, &denied):
		refused := snapshot.NewPod(pod)
		refused.Refused, refused.Across = keys.NotAllowed, snapshot.NewAcross(translate.DemandsOverClusters(pod, whole, target))
		return refused, nil
	case err != nil:
		return nil, err
	}
	reason := translate.RefusalsOf(node).Of(below)
	reduced, missing := e.admit(below, node.Labels[keys.Cluster])
	reduced.OpenNamespaces, reduced.Part = target.Rules.OpenNamespaces, part
	if err := preferAbove(reduced, pod, target, node); err != nil {
		return nil, err
	}
	reduced.Across = snapshot.NewAcross(translate.DemandsOverClusters(pod, whole, target))
	if refused := cmp.Or(missing, reason); refused != "" {
		reduced.Refused = refused
	}
	return reduced, nil
}

// admit reduces a translated pod to what the lower API server makes of it. missing is why that will not take it, "" if it will as
// far as is known.
func (e *Extender) admit(below *corev1.Pod, cluster string) (reduced *snapshot.Pod, missing keys.Reason) {
	known, ok := e.around.Load(cluster)
	if !ok {
		return snapshot.NewPod(below), ""
	}
	around := known.(*lower.Around)
	if around.Ending(below.Namespace) {
		missing = keys.NamespaceEnding
	}
	if name := below.Spec.PriorityClassName; name != "" {
		if has, known := around.HasPriorityClass(name); known && !has {
			missing = keys.PriorityClass
		}
	}
	if name := below.Spec.RuntimeClassName; name != nil && *name != "" {
		class, known := around.RuntimeClass(*name)
		switch {
		case class != nil:
			with, err := entry.WithRuntimeClass(below, class)
			if err != nil {
				missing = keys.RuntimeClass
				break
			}
			below = with
		case known:
			missing = keys.RuntimeClass
		}
	}
	return e.limit(below, around), missing
}

// limit reduces a translated pod, with the defaults of the LimitRanges of its namespace.
func (e *Extender) limit(below *corev1.Pod, around *lower.Around) *snapshot.Pod {
	limited, err := entry.Limit(below, around.LimitRanges(below.Namespace))
	if err != nil { // The bound that the pod breaks is an answer about it, not a fault.
		reduced := snapshot.NewPod(below)
		reduced.Refused = keys.Quota
		return reduced
	}
	return snapshot.NewPod(limited)
}

// overQuota reports whether the quotas of the pod's lower namespace leave no room for it besides those that are on their
// way there. The caller holds e.mu.
func (e *Extender) overQuota(name string, pod *snapshot.Pod, uid types.UID) bool {
	if pod.Object == nil {
		return false
	}
	quotas := e.clusters[name].around.Quotas(pod.Object.Namespace)
	if len(quotas) == 0 {
		return false
	}
	return entry.Quota(pod.Object, e.pool.Uncreated(name, pod.Object.Namespace, uid), quotas) != nil
}
