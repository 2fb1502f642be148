package extender

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// judgeAcross refuses the clusters into which the pods of all clusters together do not let a pod that would fit. The caller holds e.mu.
func (e *Extender) judgeAcross(pod *corev1.Pod, verdicts []verdict) {
	if !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.Fits && e.pool.JudgedAcross(v.pod) }) {
		return
	}
	sites, names := e.sites(pod, verdicts)
	reasons := e.pool.Across(sites, pod.UID)
	for i := range verdicts {
		v := &verdicts[i]
		if at := slices.Index(names, v.node.Name); v.Fits && at >= 0 && reasons[at] != "" {
			v.Verdict = snapshot.Verdict{Cluster: v.Cluster, Reason: reasons[at]}
		}
	}
}

// allowedAcross is the verdict on a reservation, or a refusal by judgeAcross. The caller holds e.mu.
func (e *Extender) allowedAcross(r *wire.HoldRequest, fits snapshot.Verdict, pod *snapshot.Pod) snapshot.Verdict {
	node := e.upper.virtualNode(e.virtualNodeOf(r.Cluster))
	if node == nil {
		return fits
	}
	verdicts := []verdict{{Verdict: fits, node: node, pod: pod}}
	asking := *r.Pod
	asking.UID = "" // Its own place counts like any other until it has left that.
	e.judgeAcross(&asking, verdicts)
	return verdicts[0].Verdict
}

// sites are all virtual nodes, also those that the scheduler did not ask about, and their names: their pods count. One that does not
// stand for the cluster behind its kubeconfig has none. The caller holds e.mu.
func (e *Extender) sites(pod *corev1.Pod, verdicts []verdict) (sites []snapshot.Site, names []string) {
	asked := make(map[string]*snapshot.Pod, len(verdicts))
	for i := range verdicts {
		asked[verdicts[i].node.Name] = verdicts[i].pod
	}
	var others []*corev1.Node
	add := func(node *corev1.Node, below *snapshot.Pod) {
		sites = append(sites, snapshot.Site{
			Cluster: node.Labels[keys.Cluster], Labels: node.Labels, Pod: below, Unusable: unusable(node),
			Fenced: e.upper.fenced(pod.Namespace, node),
		})
		names = append(names, node.Name)
	}
	for _, node := range e.upper.virtualNodes() {
		switch below, known := asked[node.Name]; {
		case e.otherCluster(node):
		case known:
			add(node, below)
		default:
			others = append(others, node)
		}
	}
	for i, below := range e.compileAll(pod, others) {
		add(others[i], below)
	}
	return sites, names
}

// mostAcross bounds the work of counting pods of which each is judged over all clusters.
const mostAcross = 100

// replicasAcross counts, by virtual node, how many of so many pods like this one go where, if they are judged over all clusters: one
// after the other, and then all are taken back. nil if they are not. The caller holds e.mu.
func (e *Extender) replicasAcross(
	pod *corev1.Pod, nodes []*corev1.Node, pods []*snapshot.Pod, verdicts []verdict, replicas int,
) map[string]int {
	if !slices.ContainsFunc(pods, func(p *snapshot.Pod) bool { return p != nil && p.Across != nil }) {
		return nil
	}
	placed := map[string]int{}
	for i := range min(replicas, mostAcross) {
		if len(verdicts) == 0 || !verdicts[0].Fits {
			break
		}
		best := verdicts[0]
		uid := types.UID(fmt.Sprint("replica-", i))
		e.pool.Offer(time.Time{}, uid, snapshot.Info{}, best.pod, best.Verdict)
		defer e.pool.Release(uid)
		placed[best.node.Name]++
		verdicts = e.judge(time.Now(), pod, nodes, pods)
	}
	return placed
}

// unusable reports whether a virtual node says that no new pods may come to it.
func unusable(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == keys.Usable && c.Status == corev1.ConditionFalse
	})
}
