package extender

import (
	"cmp"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/entry"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// compile reduces the pod to what the lower cluster behind the node will make of it: translated, with the defaults of the
// namespace's LimitRanges, and with what the virtual node's rules say about where it may go.
func (e *Extender) compile(pod *corev1.Pod, node *corev1.Node) (*snapshot.Pod, error) {
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
		refused.Refused = keys.NotAllowed
		return refused, nil
	case err != nil:
		return nil, err
	}
	reason := translate.RefusalsOf(node).Of(below)
	reduced, missing := e.admit(below, node.Labels[keys.Cluster])
	reduced.OpenNamespaces, reduced.Part = target.Rules.OpenNamespaces, part
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
