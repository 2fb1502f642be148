package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestScripts runs the stories under testdata: what is seen goes in, verdicts, holds and views come out.
// `go test ./internal/snapshot -rewrite` writes what comes out; review it like code.
//
//	node a/n1 cpu=4 [cordoned] [notready] [leaving] [zone=x] [disk=ssd] [serial=7] [taint=x]     a lower node as it is from now on
//	pod a/x node=n1 cpu=2 [own=UID] [hint=n1] [finished] [unschedulable] [ending] [gated] [priority=5]
//	     [name=web-0] [ns=shop] [via=vn]: its name is not x, its namespace not default, its virtual node; [failed=OutOfcpu]: its kubelet refused it
//	namespace a/x [upper=us] [open=us]        a namespace, whose it is and to whom it is open
//	remove a/x                                a node, pod or namespace that has gone
//	publish a                                 what is there becomes the snapshot of a
//	filter UID cpu=2                          check and hold in one step
//	judge UID cpu=2                           the same question without a hold
//	     both may have [app=web] [port=80] [apart=host] [near=zone] [spread=zone] [owner=set]: the last three are terms about
//	     pods of the same app in a domain of that label; [disk=ssd] [serial=7] [tolerates=x]: the node has to have it; and the virtual node they come through: via=vn [name=web-0] [ns=shop] [opens=shop]
//	     [nodes=zone] [reserve=2] [share=0.1]: of the nodes with that label, CPUs and a share of the CPUs are left to the cluster
//	upper UID [bound=a] [chosen=a] [refused=2s] [finished] [gone] cpu=2
//	reserve UID owner=web cluster=a [node=n1] cpu=2 ttl=60s     room for the next pod of the owner
//	withdraw UID                              the reservation is taken back
//	wait 61s                                  time passes, offers and reservations may end
//	forget a                                  the cluster leaves
//	view                                      free - held of every node, and the holds
//	keep UID UID ...                          these are all the upper pods there are
//	bind UID cluster=a [fails] cpu=2          what the bind verb does: check and hold, firmly; where the binding fails, back again
//	look UID cluster=a cpu=2                  the question in every other way there is
//	replicas UID cluster=a limit=5 cpu=2      how many such pods fit
//	restart                                   all that was in memory is lost
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{pool: NewPool(), now: time.Unix(1000, 0), nodes: map[string]*corev1.Node{}, pods: map[string]*LowerPod{}, namespaces: Namespaces{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return w.run(t, d)
		})
	})
}

// world is what a script has said so far.
type world struct {
	pool  *Pool
	now   time.Time
	nodes map[string]*corev1.Node // "cluster/name"
	pods  map[string]*LowerPod
	// namespaces by "cluster/name"; default is there anyway, and ours.
	namespaces Namespaces
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "node":
		w.nodes[name] = scriptNode(t, d, name)
	case "pod":
		w.pods[name] = asLowerPod(scriptLowerPod(t, d, name))
	case "namespace":
		w.namespaces[name] = map[string]string{keys.Upper: value(d, "upper"), keys.OpenTo: value(d, "open")}
	case "remove":
		delete(w.namespaces, name)
		delete(w.nodes, name)
		delete(w.pods, name)
	case "publish":
		return w.publish(name)
	case "filter", "judge":
		return w.filter(t, d, types.UID(name))
	case "reserve":
		return w.reserve(t, d, types.UID(name))
	case "withdraw":
		w.pool.Withdraw(types.UID(name))
		return w.holds()
	case "upper":
		return w.upper(t, d, types.UID(name))
	case "wait":
		passed, err := time.ParseDuration(name)
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(passed)
		offers, reservations := w.pool.Expire(w.now)
		return fmt.Sprintf("offers ended: %d\n", offers+reservations)
	case "forget":
		w.pool.Forget(name)
	case "view":
		return w.view()
	case "keep":
		w.pool.Keep(w.now, func(uid types.UID) bool { return d.HasArg(string(uid)) })
		return w.holds()
	case "bind":
		return w.bind(t, d, types.UID(name))
	case "look":
		return w.look(t, d, types.UID(name))
	case "replicas":
		limit, err := strconv.Atoi(value(d, "limit"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintln(w.pool.Replicas(value(d, "cluster"), asPod(scriptPod(t, d, name)), limit))
	case "restart":
		w.pool = NewPool()
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (w *world) publish(cluster string) string {
	var nodes []*corev1.Node
	var pods []*LowerPod
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		if strings.HasPrefix(name, cluster+"/") {
			nodes = append(nodes, w.nodes[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		if strings.HasPrefix(name, cluster+"/") {
			pods = append(pods, w.pods[name])
		}
	}
	namespaces := Namespaces{"default": {keys.Upper: "us"}}
	for name, set := range w.namespaces {
		if in, namespace, _ := strings.Cut(name, "/"); in == cluster {
			namespaces[namespace] = set
		}
	}
	var out strings.Builder
	news := w.pool.Publish(w.now, Of(cluster, nodes, pods, namespaces))
	if len(news.Overpromised) > 0 {
		fmt.Fprintf(&out, "overpromised: %v\n", news.Overpromised)
	}
	for _, pod := range news.Refused {
		fmt.Fprintf(&out, "refused by the kubelet of %s: %s, %s\n", pod.Node, pod.UpperUID, pod.Refusal.Reason)
	}
	return out.String() + w.view()
}

func (w *world) filter(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object := scriptPod(t, d, string(uid))
	info, sent := Info{Name: string(uid), Owner: OwnerOf(object)}, scriptAsking(t, d, object)
	pods := map[string]*Pod{}
	var verdicts []Verdict
	for _, cluster := range w.pool.Clusters() {
		pods[cluster] = w.pool.Larger(cluster, info.Owner, sent)
		verdicts = append(verdicts, w.pool.JudgeFor(info.Owner, cluster, pods[cluster], uid))
	}
	slices.SortFunc(verdicts, Tighter)
	if d.Cmd == "filter" && len(verdicts) > 0 {
		if verdicts[0].Fits {
			w.pool.Offer(w.now, uid, info, pods[verdicts[0].Cluster], verdicts[0])
		} else {
			w.pool.Release(uid)
		}
	}
	var out strings.Builder
	for _, v := range verdicts {
		if v.Fits {
			fmt.Fprintf(&out, "%s: fits on %s\n", v.Cluster, v.Node)
		} else {
			fmt.Fprintf(&out, "%s: %s, short of %v\n", v.Cluster, v.Reason, v.Short.Quantities())
		}
	}
	return out.String()
}

func (w *world) reserve(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object := scriptPod(t, d, "")
	pod, cluster := asPod(object), value(d, "cluster")
	ttl, err := time.ParseDuration(value(d, "ttl"))
	if err != nil {
		t.Fatalf("%s: ttl: %v", d.Pos, err)
	}
	verdict := w.pool.Judge(cluster, pod, uid)
	if node := value(d, "node"); node != "" {
		verdict = w.pool.JudgeNode(cluster, node, pod, uid)
	}
	if !verdict.Fits {
		return fmt.Sprintf("%s: %s, short of %v\n", cluster, verdict.Reason, verdict.Short.Quantities())
	}
	w.pool.Reserve(w.now, uid, Info{Owner: OwnerOf(object)}, pod, verdict, w.now.Add(ttl))
	return w.holds()
}

func (w *world) upper(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object := scriptPod(t, d, string(uid))
	seen := UpperPod{
		UID: uid, Info: Info{Name: string(uid), Owner: OwnerOf(object)}, Cluster: value(d, "bound"), Chosen: value(d, "chosen"),
		Finished: d.HasArg("finished"), Gone: d.HasArg("gone"), Pod: asPod(object),
	}
	if after := value(d, "refused"); after != "" {
		passed, err := time.ParseDuration(after)
		if err != nil {
			t.Fatal(err)
		}
		seen.Refused = w.now.Add(passed)
	}
	if w.pool.Observe(w.now, seen) {
		return "held elsewhere\n" + w.holds()
	}
	return w.holds()
}

func (w *world) bind(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object, cluster := scriptPod(t, d, string(uid)), value(d, "cluster")
	owner := OwnerOf(object)
	pod := w.pool.Larger(cluster, owner, asPod(object))
	verdict := w.pool.JudgeFor(owner, cluster, pod, uid)
	if !verdict.Fits {
		return fmt.Sprintf("%s: %s, short of %v\n", cluster, verdict.Reason, verdict.Short.Quantities())
	}
	before := w.pool.Hold(uid)
	mine := w.pool.Offer(w.now, uid, Info{Name: string(uid), Owner: owner}, pod, verdict)
	mine.State = Bound
	if d.HasArg("fails") {
		mine.State = Offered
		w.pool.Release(uid)
		if before != nil {
			w.pool.Restore(before)
		}
	}
	return w.holds()
}

func (w *world) look(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	cluster, pod := value(d, "cluster"), asPod(scriptPod(t, d, string(uid)))
	var out strings.Builder
	takes := w.pool.Takes(cluster, pod, uid)
	for _, node := range slices.Sorted(maps.Keys(takes)) {
		alone := w.pool.JudgeNode(cluster, node, pod, uid)
		fmt.Fprintf(&out, "%s: %q, alone %t %q, short of %v\n", node, takes[node], alone.Fits, alone.Reason, alone.Short.Quantities())
	}
	fmt.Fprintln(&out, "candidates", w.pool.Candidates(cluster, pod, uid, len(takes)))
	verdict := w.pool.Judge(cluster, pod, uid)
	fmt.Fprintf(&out, "%t %q %q, short of %v, undecided %t\n",
		verdict.Fits, verdict.Node, verdict.Reason, verdict.Short.Quantities(), w.pool.Undecided(cluster, pod))
	return out.String()
}

func (w *world) view() string {
	var out strings.Builder
	for _, cluster := range w.pool.Clusters() {
		for _, node := range w.pool.Snapshot(cluster).Nodes {
			held := w.pool.Held(cluster, node.Name())
			fmt.Fprintf(&out, "%s/%s free=%s held=%s", cluster, node.Name(), cpu(node.Free()), cpu(held))
			if avoided := w.pool.Refusals(cluster)[node.Name()]; avoided > 0 {
				fmt.Fprintf(&out, " avoided=%d", avoided)
			}
			fmt.Fprintln(&out)
		}
	}
	for _, cluster := range w.pool.Clusters() {
		c := w.pool.cells[cluster]
		for _, g := range c.guests {
			fmt.Fprintf(&out, "waiting %s expected on %s/%s\n", g.pod.Object.Name, cluster, c.nodes[g.row].Name())
		}
	}
	return out.String() + w.holds()
}

func (w *world) holds() string {
	var out strings.Builder
	for _, hold := range w.pool.Holds() {
		fmt.Fprintf(&out, "hold %s %s on %s/%s cpu=%s\n", hold.UID, hold.State, hold.Cluster, hold.Node, cpu(hold.Requests))
	}
	return out.String()
}

func cpu(r Resources) string {
	return resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI).String()
}

// scriptPod is the pod that a command speaks of.
func scriptPod(t *testing.T, d *datadriven.TestData, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": value(d, "app")}}}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list(t, d)}}}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} { // Said, so that no more than that counts.
		if _, said := pod.Spec.Containers[0].Resources.Requests[name]; !said {
			pod.Spec.Containers[0].Resources.Requests[name] = resource.Quantity{}
		}
	}
	if text := value(d, "port"); text != "" {
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			t.Fatalf("%s: port: %v", d.Pos, err)
		}
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: int32(number), HostPort: int32(number)}}
	}
	if owner := value(d, "owner"); owner != "" {
		yes := true
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: &yes}}
	}
	same := &metav1.LabelSelector{MatchLabels: map[string]string{"app": value(d, "app")}}
	pod.Name, pod.Namespace = cmp.Or(value(d, "name"), pod.Name), cmp.Or(value(d, "ns"), pod.Namespace)
	if via := value(d, "via"); via != "" {
		pod.Labels[keys.Upper], pod.Labels[keys.VirtualNode] = "us", via
	}
	term := func(key string) []corev1.PodAffinityTerm {
		return []corev1.PodAffinityTerm{{LabelSelector: same, TopologyKey: key}}
	}
	pod.Spec.Affinity = &corev1.Affinity{}
	for _, key := range []string{"disk", "serial"} {
		if text := value(d, key); text != "" {
			pod.Spec.NodeSelector = map[string]string{key: text}
		}
	}
	if text := value(d, "tolerates"); text != "" {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Value: text}}
	}
	if key := value(d, "apart"); key != "" {
		pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(key)}
	}
	if key := value(d, "near"); key != "" {
		pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: term(key)}
	}
	if key := value(d, "nodes"); key != "" {
		has := []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpExists}}
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: has}},
		}}
	}
	if key := value(d, "spread"); key != "" {
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
			{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: same},
		}
	}
	return pod
}

// asPod reduces a pod of a script. Scripts are about room: their pods draw nobody, as the oracle knows nothing of that.
func asPod(object *corev1.Pod) *Pod {
	pod := NewPod(object)
	pod.draws = nil
	return pod
}

func asLowerPod(object *corev1.Pod) *LowerPod {
	pod := NewLowerPod(object, "us")
	if pod.draws = nil; pod.asks != nil {
		pod.asks.draws = nil
	}
	return pod
}

// scriptAsking is the pod with what its virtual node says of it.
func scriptAsking(t *testing.T, d *datadriven.TestData, object *corev1.Pod) *Pod {
	pod := asPod(object)
	if opens := value(d, "opens"); opens != "" {
		pod.OpenNamespaces = []string{opens}
	}
	if key := value(d, "nodes"); key != "" {
		has, err := labels.NewRequirement(key, selection.Exists, nil)
		if err != nil {
			t.Fatal(err)
		}
		pod.Part.Nodes = labels.NewSelector().Add(*has)
	}
	if text := value(d, "reserve"); text != "" {
		pod.Part.Reserve.Amount = FromList(corev1.ResourceList{"cpu": resource.MustParse(text)})
	}
	if text := value(d, "share"); text != "" {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		pod.Part.Reserve.Share = map[corev1.ResourceName]float64{"cpu": share}
	}
	return pod
}

// scriptLowerPod is a pod as it stands below.
func scriptLowerPod(t *testing.T, d *datadriven.TestData, name string) *corev1.Pod {
	pod := scriptPod(t, d, name)
	pod.Spec.NodeName, pod.Status.NominatedNodeName = value(d, "node"), value(d, "hint")
	if own := value(d, "own"); own != "" {
		pod.Labels[keys.Upper] = "us"
		pod.Annotations = map[string]string{keys.UpperUID: own}
	}
	if d.HasArg("finished") {
		pod.Status.Phase = corev1.PodSucceeded
	}
	if reason := value(d, "failed"); reason != "" {
		pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, reason
		pod.CreationTimestamp = metav1.Time{Time: time.Unix(1000, 0)}
	}
	if d.HasArg("ending") {
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
	}
	if d.HasArg("gated") {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}}
	}
	if d.HasArg("unschedulable") {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
	}
	if text := value(d, "priority"); text != "" {
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			t.Fatalf("%s: priority: %v", d.Pos, err)
		}
		priority := int32(number)
		pod.Spec.Priority = &priority
	}
	return pod
}

func scriptNode(t *testing.T, d *datadriven.TestData, name string) *corev1.Node {
	node := &corev1.Node{}
	_, node.Name, _ = strings.Cut(name, "/")
	node.Labels = map[string]string{"host": node.Name}
	if zone := value(d, "zone"); zone != "" {
		node.Labels["zone"] = zone
	}
	for _, key := range []string{"disk", "serial"} {
		if text := value(d, key); text != "" {
			node.Labels[key] = text
		}
	}
	if text := value(d, "taint"); text != "" {
		node.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: text, Effect: corev1.TaintEffectNoSchedule}}
	}
	if d.HasArg("leaving") {
		node.Spec.Taints = []corev1.Taint{{Key: removal[0], Effect: corev1.TaintEffectNoSchedule}}
	}
	node.Spec.Unschedulable = d.HasArg("cordoned")
	ready := corev1.ConditionTrue
	if d.HasArg("notready") {
		ready = corev1.ConditionFalse
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	node.Status.Allocatable = list(t, d)
	node.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("110")
	return node
}

// list reads cpu=, memory= and gpu= of a command.
func list(t *testing.T, d *datadriven.TestData) corev1.ResourceList {
	found := corev1.ResourceList{}
	for key, name := range map[string]corev1.ResourceName{"cpu": "cpu", "memory": "memory", "gpu": "nvidia.com/gpu"} {
		if text := value(d, key); text != "" {
			quantity, err := resource.ParseQuantity(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", d.Pos, key, err)
			}
			found[name] = quantity
		}
	}
	return found
}

func value(d *datadriven.TestData, key string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == key && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
	}
	return ""
}

func TestReasonsAreOfTheContract(t *testing.T) {
	short := map[keys.Reason]Resources{
		keys.InsufficientCPU:              {MilliCPU: 1, Memory: 1},
		keys.InsufficientMemory:           {Memory: 1},
		keys.InsufficientEphemeralStorage: {EphemeralStorage: 1},
		keys.InsufficientPods:             {Pods: 1},
		keys.InsufficientExtendedResource: {Scalars: map[corev1.ResourceName]int64{"gpu": 1}},
	}
	for want, resources := range short {
		if got := insufficient(resources); got != want {
			t.Errorf("insufficient(%v) = %s, want %s", resources, got, want)
		}
	}
}
