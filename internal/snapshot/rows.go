package snapshot

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// Rows are what watches have told of a lower cluster: a row a node, with the pods on it. What changes is remembered until it is
// fetched. A node is summed up from all that is on it, never from a difference, so nothing can drift; and what has changed in
// nothing that fit looks at, as most that kubelets write, counts as no change. Not for two at a time.
type Rows struct {
	cluster string
	nodes   map[string]*nodeRow
	pods    map[types.UID]*LowerPod
	own     map[types.UID][]*LowerPod // by the UID of the upper pod: one, unless somebody below writes our marks
	waiting map[*LowerPod]struct{}
	living  int // unfinished pods
	around  *Surroundings

	changedNodes  map[string]struct{}
	changedOwn    map[types.UID]struct{}
	changedAround bool
	names         map[uint64]bool // that have been taken or given back, and whether they are taken now
}

type nodeRow struct {
	object *corev1.Node // nil where there are pods on a node that is not there
	pods   []*LowerPod
	built  *Node        // as it was last fetched
	from   *corev1.Node // what it was built from
}

// NewRows returns those of a cluster of which nothing is known.
func NewRows(cluster string) *Rows {
	return &Rows{
		cluster: cluster, nodes: map[string]*nodeRow{}, pods: map[types.UID]*LowerPod{}, own: map[types.UID][]*LowerPod{},
		waiting: map[*LowerPod]struct{}{}, around: &Surroundings{}, names: map[uint64]bool{}, changedNodes: map[string]struct{}{},
		changedOwn: map[types.UID]struct{}{}, changedAround: true,
	}
}

// SetNode tells of a node, trimmed as the caller likes to keep it, and reports whether anything has changed that counts. Rows own
// the node from then on.
func (r *Rows) SetNode(node *corev1.Node) bool {
	row := r.row(node.Name)
	if row.object != nil && sameNode(row.object, node) {
		return false
	}
	row.object = node
	r.changedNodes[node.Name] = struct{}{}
	return true
}

// RemoveNode tells that a node has gone.
func (r *Rows) RemoveNode(name string) {
	r.row(name).object = nil
	r.changedNodes[name] = struct{}{}
}

func (r *Rows) row(name string) *nodeRow {
	row := r.nodes[name]
	if row == nil {
		row = &nodeRow{}
		r.nodes[name] = row
	}
	return row
}

// SetPod tells of a pod, and returns it as it is known from then on: as before, where nothing has changed that counts.
func (r *Rows) SetPod(pod *LowerPod) (known *LowerPod, changed bool) {
	if before := r.pods[pod.UID]; before != nil {
		if before.Same(pod) {
			return before, false
		}
		r.remove(before)
	}
	r.pods[pod.UID] = pod
	r.add(pod)
	return pod, true
}

// RemovePod tells that a pod has gone, and reports whether it was known.
func (r *Rows) RemovePod(uid types.UID) bool {
	before := r.pods[uid]
	if before != nil {
		r.remove(before)
		delete(r.pods, uid)
	}
	return before != nil
}

func (r *Rows) add(pod *LowerPod) {
	if !pod.Finished {
		r.living++
		if pod.Node == "" {
			r.waiting[pod] = struct{}{}
		} else {
			row := r.row(pod.Node)
			row.pods = append(row.pods, pod)
			r.changedNodes[pod.Node] = struct{}{}
		}
	}
	r.name(pod, true)
	if pod.UpperUID != "" {
		r.own[pod.UpperUID] = append(r.own[pod.UpperUID], pod)
		r.changedOwn[pod.UpperUID] = struct{}{}
	}
}

func (r *Rows) remove(pod *LowerPod) {
	same := func(other *LowerPod) bool { return other == pod }
	if !pod.Finished {
		r.living--
		if pod.Node == "" {
			delete(r.waiting, pod)
		} else {
			row := r.row(pod.Node)
			row.pods = slices.DeleteFunc(row.pods, same)
			r.changedNodes[pod.Node] = struct{}{}
		}
	}
	r.name(pod, false)
	if pod.UpperUID != "" {
		if left := slices.DeleteFunc(r.own[pod.UpperUID], same); len(left) > 0 {
			r.own[pod.UpperUID] = left
		} else {
			delete(r.own, pod.UpperUID)
		}
		r.changedOwn[pod.UpperUID] = struct{}{}
	}
}

func (r *Rows) name(pod *LowerPod, taken bool) {
	for _, name := range pod.names() {
		r.names[name] = taken
	}
}

// SetAround tells of what is beside nodes and pods. Rows own it from then on.
func (r *Rows) SetAround(around Surroundings) { r.around, r.changedAround = &around, true }

// Fetch returns what has changed since it was last called, and all there is the first time.
func (r *Rows) Fetch() *Changes {
	changes := &Changes{
		Cluster: r.cluster, Own: make(map[types.UID]*LowerPod, len(r.changedOwn)), Waiting: r.waits(), Pods: r.living,
		names: r.names,
	}
	for name := range r.changedNodes {
		if r.build(name) {
			changes.Nodes = append(changes.Nodes, r.nodes[name].built)
		} else {
			changes.Removed = append(changes.Removed, name)
		}
	}
	for uid := range r.changedOwn {
		changes.Own[uid] = r.stands(uid)
	}
	if r.changedAround {
		changes.Around = r.around
	}
	r.names, r.changedAround = map[uint64]bool{}, false
	clear(r.changedNodes)
	clear(r.changedOwn)
	return changes
}

// build sums a node up, and reports whether it is there.
func (r *Rows) build(name string) bool {
	row := r.nodes[name]
	switch {
	case row.object == nil:
		if row.built = nil; len(row.pods) == 0 {
			delete(r.nodes, name)
		}
		return false
	case row.built != nil && row.from == row.object:
		row.built = row.built.With(row.pods)
	default:
		row.built, row.from = newNode(row.object, row.object, row.pods), row.object
	}
	return true
}

// waits are the pods that have no node, in the order in which they were created.
func (r *Rows) waits() []*LowerPod {
	return slices.SortedFunc(maps.Keys(r.waiting), func(a, b *LowerPod) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
}

// stands is the pod that stands for an upper one, nil if none does: of several the one that has a node, or the newest.
func (r *Rows) stands(uid types.UID) *LowerPod {
	if len(r.own[uid]) == 0 {
		return nil
	}
	return slices.MaxFunc(r.own[uid], func(a, b *LowerPod) int {
		if (a.Node != "") != (b.Node != "") {
			return cmp.Compare(a.Node, b.Node)
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
}

// Snapshot returns all there is.
func (r *Rows) Snapshot() *Snapshot {
	content := Content{
		Cluster: r.cluster, Own: make(map[types.UID]*LowerPod, len(r.own)), Pods: r.living, Waiting: r.waits(), Surroundings: *r.around,
	}
	for name := range r.changedNodes {
		r.build(name)
	}
	clear(r.changedNodes)
	for _, row := range r.nodes {
		if row.built != nil {
			content.Nodes = append(content.Nodes, row.built)
		}
	}
	for uid := range r.own {
		content.Own[uid] = r.stands(uid)
	}
	clear(r.names) // Nobody fetches them.
	clear(r.changedOwn)
	return New(content)
}

// sameNode reports whether fit sees no difference between two states of a node.
func sameNode(a, b *corev1.Node) bool {
	sameTaint := func(x, y corev1.Taint) bool { return x.MatchTaint(&y) && x.Value == y.Value }
	return a.Spec.Unschedulable == b.Spec.Unschedulable && ready(a) == ready(b) && leaving(a) == leaving(b) &&
		maps.Equal(a.Labels, b.Labels) && slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, sameTaint) &&
		slices.Equal(a.Status.DeclaredFeatures, b.Status.DeclaredFeatures) &&
		FromList(a.Status.Allocatable).equal(FromList(b.Status.Allocatable)) && len(a.Status.Allocatable) == len(b.Status.Allocatable)
}

// Same reports whether fit sees no difference between two states of a pod. Those that few pods have are not looked into.
func (l *LowerPod) Same(other *LowerPod) bool {
	return !l.odd() && !other.odd() && l.facts() == other.facts() && l.Created.Equal(other.Created) && l.Requests.equal(other.Requests) &&
		l.same(&other.tenant) && apiequality.Semantic.DeepEqual(l.apartTerms, other.apartTerms)
}

func (l *LowerPod) odd() bool { return l.asks != nil || l.Object != nil || l.Refusal != nil }

// facts are what can be compared at once.
func (l *LowerPod) facts() any {
	return struct {
		uid, upper                     types.UID
		node, hint                     string
		finished, unschedulable, gated bool
		priority                       int32
		name                           uint64
		unsaid                         unsaid
	}{l.UID, l.UpperUID, l.Node, l.Hint, l.Finished, l.Unschedulable, l.Gated, l.Priority, l.name, l.unsaid}
}

func (t *tenant) same(other *tenant) bool {
	return t.namespace == other.namespace && t.terminating == other.terminating && maps.Equal(t.labels, other.labels) &&
		slices.Equal(t.ports, other.ports) && slices.EqualFunc(t.draws, other.draws, sameTerm)
}
