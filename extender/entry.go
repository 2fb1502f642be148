package extender

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/entry"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/lower"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// compile reduces the pod to what the lower cluster behind the node will make of it: translated, and with the defaults
// of the namespace's LimitRanges.
func (e *Extender) compile(pod *corev1.Pod, node *corev1.Node) (*snapshot.Pod, error) {
	target, err := translate.TargetOf(node, e.identity)
	if err != nil {
		return nil, err
	}
	below, err := translate.LowerPod(pod, target)
	if err != nil {
		return nil, err
	}
	around, ok := e.around.Load(node.Labels[keys.Cluster])
	if !ok {
		return snapshot.NewPod(below), nil
	}
	limited, err := entry.Limit(below, around.(*lower.Around).LimitRanges(below.Namespace))
	if err != nil {
		reduced := snapshot.NewPod(below)
		reduced.Refused = keys.Quota
		return reduced, nil //nolint:nilerr // The bound that the pod breaks is an answer about it, not a fault.
	}
	return snapshot.NewPod(limited), nil
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
