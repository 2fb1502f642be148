package extender

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// verdict is a judgement on one virtual node.
type verdict struct {
	snapshot.Verdict
	node  *corev1.Node
	pod   *snapshot.Pod
	score int64
	rank  int // of the cluster in the order that the pod asks for
	// unasked: there was no time to ask, and the reason is that of the last time.
	unasked bool
}

// record is the last answer about a pod, for people who ask why.
type record struct {
	namespace, name string
	uid             types.UID

	when     time.Time
	chosen   string // virtual node that the room is held in
	verdicts []verdict
}

// filter answers which nodes take the pod, and holds room on the best of them in the same step. Real nodes pass;
// names that are not known are refused: they may be virtual nodes too new for the cache.
func (e *Extender) filter(args *extenderv1.ExtenderArgs) *extenderv1.ExtenderFilterResult {
	now := time.Now()
	pod := args.Pod
	passed, refused, asked := e.sort(nodeNames(args))
	elsewhere := seal.Overflows(pod) && len(passed) > 0
	verdicts := e.judgeAndHold(now, pod, asked, refused, len(passed) > 0)
	e.remember(now, pod, verdicts, elsewhere)
	if len(passed) == 0 {
		e.tellRefused(pod, verdicts)
	}
	for i, v := range verdicts {
		switch {
		case !v.Fits:
			refused[v.node.Name] = v.Reason
		case i == 0 && !elsewhere || e.config.FilterAnswer == answerAll:
			passed = append(passed, v.node.Name)
		default:
			refused[v.node.Name] = keys.Held // Another node, perhaps a real one, is better; "best" keeps the choice to itself.
		}
	}
	return answer(args, passed, refused)
}

// sort splits the names of a request: real nodes, unknown ones, and virtual nodes to judge.
func (e *Extender) sort(names []string) (passed []string, refused map[string]keys.Reason, asked []*corev1.Node) {
	refused = map[string]keys.Reason{}
	for _, name := range names {
		switch node := e.upper.node(name); {
		case isReal(node):
			passed = append(passed, name)
		case node != nil && isVirtual(node):
			asked = append(asked, node)
		default: // Not seen yet, or something pretends to be a virtual node.
			refused[name] = keys.NotSynced
		}
	}
	return passed, refused, asked
}

// judgeAndHold judges every virtual node, the best first, and holds room on the best one, unless the pod goes to a real node: real says
// that one takes it. unknown are the names that may be virtual nodes too new for the cache.
func (e *Extender) judgeAndHold(
	now time.Time, pod *corev1.Pod, nodes []*corev1.Node, unknown map[string]keys.Reason, real bool,
) []verdict {
	entries := make(map[string]uint64, len(nodes)) // First: what changes meanwhile has it reduced again.
	for _, node := range nodes {
		entries[node.Labels[keys.Cluster]] = e.entriesOf(node.Labels[keys.Cluster])
	}
	pods := e.compileAll(pod, nodes)
	e.mu.Lock()
	defer e.mu.Unlock()
	verdicts := e.judge(now, pod, nodes, pods)
	if pod.UID == "" || e.firm(pod.UID) {
		return verdicts // Asked by hand, for nobody; or bound already, and this call is late.
	}
	defer e.touchIfMoved(pod.UID, e.place(pod.UID))
	switch fits := len(verdicts) > 0 && verdicts[0].Fits; {
	case real && (!fits || seal.Overflows(pod)):
		e.pool.Release(pod.UID)
		delete(e.waiting, pod.UID)
	case fits:
		e.offer(now, pod, verdicts[0])
		delete(e.waiting, pod.UID)
	default:
		e.pool.Release(pod.UID)
		e.wait(pod, verdicts, unknown, entries)
	}
	return verdicts
}

// offer holds room where the verdict says. A pod that is nominated for that node has no time limit: its volumes may
// be on their way.
func (e *Extender) offer(now time.Time, pod *corev1.Pod, best verdict) {
	hold := e.pool.Offer(now, pod.UID, infoOf(pod), best.pod, best.Verdict)
	hold.Refused = refusedAt(pod)
	if best.node.Name == pod.Status.NominatedNodeName {
		hold.State = snapshot.Chosen
	}
}

// firm reports whether a pod's room is not the scheduler's to move any more: it is bound, or about to be. The caller holds
// e.mu.
func (e *Extender) firm(uid types.UID) bool {
	hold := e.pool.Hold(uid)
	return e.pool.Bound(uid) || hold != nil && hold.State != snapshot.Offered && hold.State != snapshot.Chosen
}

// place is where a pod's hold sits, "" without one. The caller holds e.mu.
func (e *Extender) place(uid types.UID) string {
	if hold := e.pool.Hold(uid); hold != nil {
		return hold.Cluster + "/" + hold.Node
	}
	return ""
}

// touchIfMoved looks for pods that fit now if the hold is not where it was: its room is free again.
func (e *Extender) touchIfMoved(uid types.UID, before string) {
	if before != "" && before != e.place(uid) {
		e.touch()
	}
}

// judge returns a verdict a node, sorted the best first. The caller holds e.mu.
func (e *Extender) judge(now time.Time, pod *corev1.Pod, nodes []*corev1.Node, pods []*snapshot.Pod) []verdict {
	owner := snapshot.OwnerOf(pod)
	deadline := now.Add(e.config.FilterDeadline.Duration)
	verdicts := make([]verdict, len(nodes))
	rank := seal.Ranks(pod)
	for i, node := range nodes {
		name := node.Labels[keys.Cluster]
		v := verdict{node: node, pod: e.pool.Larger(name, owner, pods[i]), rank: rank(name), Verdict: snapshot.Verdict{Cluster: name}}
		defer e.pool.Lend(owner, name, v.pod, pod.UID)() // What is reserved for the pod is in nobody's way until all is judged.
		if v.Reason = e.unasked(node, owner, pod.Namespace, v.pod, now, deadline); v.Reason == "" {
			v.Verdict = e.pool.JudgeFor(owner, name, v.pod, pod.UID)
		}
		if v.Fits && e.overQuota(name, v.pod, pod.UID) {
			v.Verdict = snapshot.Verdict{Cluster: name, Reason: keys.Quota}
		}
		verdicts[i] = v
	}
	e.judgeAcross(pod, verdicts)
	weigh(verdicts)
	sortVerdicts(verdicts)
	if e.decideAll(deadline, verdicts, pod.UID) {
		sortVerdicts(verdicts)
	}
	e.fillIn(pod, verdicts)
	score(verdicts)
	return verdicts
}

// unasked returns why there is no need to ask about a cluster, or "". The caller holds e.mu.
func (e *Extender) unasked(
	node *corev1.Node, owner snapshot.Owner, namespace string, pod *snapshot.Pod, now, deadline time.Time,
) keys.Reason {
	name := node.Labels[keys.Cluster]
	switch reason := e.usable(name, now); {
	case pod == nil:
		return keys.NodeAffinity // Its sealed constraints or the node's rules cannot be read.
	case e.otherCluster(node):
		return keys.OtherCluster
	case reason != "":
		return reason
	case e.upper.fenced(namespace, node):
		return keys.Fenced
	case e.avoid.has(owner, name):
		return keys.Avoided
	case time.Now().After(deadline):
		return unknown
	default:
		return ""
	}
}

// otherCluster reports whether the virtual node does not stand for the cluster behind its kubeconfig, by what is seen here or by
// what its Node says. The caller holds e.mu.
func (e *Extender) otherCluster(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == keys.Usable && c.Status == corev1.ConditionFalse && slices.Contains(notOurs, c.Reason) {
			return true
		}
	}
	state, stands := e.clusters[node.Labels[keys.Cluster]], types.UID(node.Annotations[keys.LowerUID])
	if state == nil || state.watch == nil || stands == "" {
		return false
	}
	found := state.watch.Health().UID
	return found != "" && found != stands
}

// notOurs are the reasons for which a virtual node that answers stands for no cluster.
var notOurs = []string{keys.LowerChanged, keys.IdentityTaken, string(keys.OtherCluster)}

// score gives the best virtual node 10, the next 1 and all others 0: with weight 200 the gap outweighs every
// in-tree plugin, so the scheduler chooses where the room is held.
func score(verdicts []verdict) {
	for i := range verdicts {
		switch {
		case !verdicts[i].Fits:
		case i == 0:
			verdicts[i].score = extenderv1.MaxExtenderPriority
		case i == 1:
			verdicts[i].score = 1
		}
	}
}

func (e *Extender) remember(now time.Time, pod *corev1.Pod, verdicts []verdict, elsewhere bool) {
	last := &record{namespace: pod.Namespace, name: pod.Name, uid: pod.UID, when: now, verdicts: slices.Clone(verdicts)}
	for i, v := range verdicts {
		if i == 0 && v.Fits && !elsewhere {
			last.chosen = v.node.Name
		}
		last.verdicts[i].pod = nil // An hour of pods would weigh too much.
		e.metrics.verdict(v)
	}
	lifetime := refusedLimit
	if last.chosen != "" {
		if e.verdicts.ItemCount() >= mostVerdicts {
			return // A burst of pods that all went well needs no explaining.
		}
		lifetime = acceptedLimit
	}
	e.verdicts.Set(pod.Namespace+"/"+pod.Name, last, lifetime)
}

// How long the last answer about a pod can be asked for: at most these times, and not after the pod has gone.
const (
	refusedLimit  = time.Hour
	acceptedLimit = 10 * time.Minute
	mostVerdicts  = 10_000
)

// answer puts the result into the form the request came in. A refusal is unresolvable, as no preemption that the
// scheduler could do would help, except on the node that the pod is nominated for: calling that unresolvable
// would make the scheduler kill more victims elsewhere.
func answer(args *extenderv1.ExtenderArgs, passed []string, refused map[string]keys.Reason) *extenderv1.ExtenderFilterResult {
	result := &extenderv1.ExtenderFilterResult{
		FailedNodes: extenderv1.FailedNodesMap{}, FailedAndUnresolvableNodes: extenderv1.FailedNodesMap{},
	}
	for name, reason := range refused {
		if name == args.Pod.Status.NominatedNodeName {
			result.FailedNodes[name] = text(reason)
		} else {
			result.FailedAndUnresolvableNodes[name] = text(reason)
		}
	}
	if args.NodeNames != nil {
		result.NodeNames = &passed
		if passed == nil {
			result.NodeNames = &[]string{}
		}
		return result
	}
	result.Nodes = &corev1.NodeList{}
	for _, node := range args.Nodes.Items {
		if _, no := refused[node.Name]; !no {
			result.Nodes.Items = append(result.Nodes.Items, node)
		}
	}
	return result
}

// nodeNames returns the names of a request in either form.
func nodeNames(args *extenderv1.ExtenderArgs) []string {
	if args.NodeNames != nil {
		return *args.NodeNames
	}
	names := make([]string, 0, len(args.Nodes.Items))
	for _, node := range args.Nodes.Items {
		names = append(names, node.Name)
	}
	return names
}
