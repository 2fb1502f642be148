package snapshot

import "k8s.io/apimachinery/pkg/types"

// antiAffinity has the required anti-affinity over clusters of upper pods that are in a cluster or on their way there. Their lower pods
// do not have these terms.
type antiAffinity struct {
	pods      map[types.UID]keeper
	byCluster map[string]*termIndex
}

// keeper is a pod that keeps others out of its domains.
type keeper struct {
	cluster string
	terms   []term
}

func newAntiAffinity() antiAffinity {
	return antiAffinity{pods: map[types.UID]keeper{}, byCluster: map[string]*termIndex{}}
}

// put notes where a pod is, in place of where it was. It reports whether it has left a cluster.
func (x *antiAffinity) put(uid types.UID, cluster string, pod *Pod) (left bool) {
	before, known := x.pods[uid]
	if known && before.cluster == cluster {
		return false
	}
	left = x.remove(uid)
	if pod == nil || pod.Across == nil || len(pod.Across.apart) == 0 {
		return left
	}
	k := keeper{cluster: cluster, terms: pod.Across.apart}
	x.pods[uid] = k
	x.add(k)
	return left
}

func (x *antiAffinity) add(k keeper) {
	index := x.byCluster[k.cluster]
	if index == nil {
		made := newTermIndex()
		index = &made
		x.byCluster[k.cluster] = index
	}
	for i := range k.terms {
		index.add(0, &k.terms[i]) // A cluster is one row.
	}
}

// remove forgets a pod, and reports whether it was known.
func (x *antiAffinity) remove(uid types.UID) bool {
	k, known := x.pods[uid]
	if known {
		delete(x.pods, uid)
		x.drop(k)
	}
	return known
}

func (x *antiAffinity) drop(k keeper) {
	index := x.byCluster[k.cluster]
	for i := range k.terms {
		index.remove(0, &k.terms[i])
	}
	if index.empty() {
		delete(x.byCluster, k.cluster)
	}
}

// lift leaves a pod out of sight until the returned function puts it back.
func (x *antiAffinity) lift(uid types.UID) (back func()) {
	k, known := x.pods[uid]
	if !known {
		return func() {}
	}
	x.drop(k)
	return func() { x.add(k) }
}

// about visits the terms of the pods of a cluster that may speak of a pod, and more.
func (x *antiAffinity) about(cluster string, pod *tenant, visit func(*term)) {
	if index := x.byCluster[cluster]; index != nil {
		index.about(pod, func(t *term, _ map[int32]int32) { visit(t) })
	}
}

// keep notes a pod with anti-affinity over clusters where it is, or will be.
func (p *Pool) keep(uid types.UID, cluster string, pod *Pod) {
	if p.anti.put(uid, cluster, pod) {
		p.shake()
	}
}

// unkeep forgets it: it is nowhere any more.
func (p *Pool) unkeep(uid types.UID) {
	if p.anti.remove(uid) {
		p.shake()
	}
}

// shake remembers that any cluster may let pods in which it has refused.
func (p *Pool) shake() {
	for _, c := range p.cells {
		c.shaken++
	}
}

// KeepsOthersAway reports whether the pool knows of a pod's anti-affinity over clusters.
func (p *Pool) KeepsOthersAway(uid types.UID) bool {
	_, known := p.anti.pods[uid]
	return known
}
