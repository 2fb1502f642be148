package extender

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// unaskedBinds are the binds to a cluster's virtual nodes that the extender was not asked about: a scheduler without the
// extender entry, a nodeName set by hand, an agent that tolerates every taint. Their room was never held.
type unaskedBinds struct {
	count int
	last  string // namespace/name
}

// Values of the label kind.
const (
	markedBind   = "marked"   // the pod asks for the marker, so the scheduler should have called
	unmarkedBind = "unmarked" // it does not, or a DaemonSet has made it
)

// noteBind counts a pod that was not bound before, and now is to a virtual node, if nobody asked about it. What was bound
// before the start is over was the business of whoever was there then. before is nil for a pod that is new.
func (u *upper) noteBind(before, pod *corev1.Pod) {
	if pod.Spec.NodeName == "" || before != nil && before.Spec.NodeName != "" {
		return
	}
	node := u.virtualNode(pod.Spec.NodeName)
	if node == nil {
		return
	}
	kind := unmarkedBind
	if translate.Marked(pod) && !translate.OfDaemonSet(pod) {
		kind = markedBind
	}
	e := u.extender
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ready.Load() || kind == markedBind && e.offered(pod) {
		return
	}
	cluster := node.Labels[keys.Cluster]
	if e.unaskedBinds[cluster] == nil {
		e.unaskedBinds[cluster] = &unaskedBinds{}
	}
	e.unaskedBinds[cluster].count++
	e.unaskedBinds[cluster].last = pod.Namespace + "/" + pod.Name
	e.metrics.unasked.WithLabelValues(cluster, kind).Inc()
	e.log.Warn("A pod was bound to a virtual node without the extender", "cluster", cluster, "kind", kind,
		"namespace", pod.Namespace, "name", pod.Name)
}

// offered reports whether the scheduler was told of some virtual node that takes the pod. The caller holds e.mu.
func (e *Extender) offered(pod *corev1.Pod) bool {
	if e.pool.Hold(pod.UID) != nil || e.pool.Bound(pod.UID) {
		return true
	}
	last, known := e.verdicts.Get(pod.Namespace + "/" + pod.Name) // The hold may be over, or its cluster has left.
	return known && last.(*record).uid == pod.UID && last.(*record).chosen != ""
}
