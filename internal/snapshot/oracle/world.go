package oracle

import (
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
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// World is what a script has said so far.
type World struct {
	pool  *Pool
	now   time.Time
	nodes map[string]*corev1.Node // "cluster/name"
	pods  map[string]*LowerPod
	// namespaces by "cluster/name"; default is there anyway, and ours.
	namespaces Namespaces
}

// NewWorld is one of which nothing has been said.
func NewWorld(now time.Time) *World {
	return &World{pool: NewPool(), now: now, nodes: map[string]*corev1.Node{}, pods: map[string]*LowerPod{}, namespaces: Namespaces{}}
}

// Run runs a command of a script and returns what comes of it.
func (w *World) Run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	name := ""
	if len(d.CmdArgs) > 0 {
		name = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "node":
		w.nodes[name] = scriptNode(t, d, name)
	case "pod":
		w.pods[name] = NewLowerPod(scriptLowerPod(t, d, name), "us")
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
		return fmt.Sprintln(w.pool.Replicas(value(d, "cluster"), NewPod(scriptPod(t, d, name)), limit))
	case "restart":
		w.pool = NewPool()
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (w *World) publish(cluster string) string {
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

func (w *World) filter(t *testing.T, d *datadriven.TestData, uid types.UID) string {
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

func (w *World) reserve(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object := scriptPod(t, d, "")
	pod, cluster := NewPod(object), value(d, "cluster")
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

func (w *World) upper(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object := scriptPod(t, d, string(uid))
	seen := UpperPod{
		UID: uid, Info: Info{Name: string(uid), Owner: OwnerOf(object)}, Cluster: value(d, "bound"), Chosen: value(d, "chosen"),
		Finished: d.HasArg("finished"), Gone: d.HasArg("gone"), Pod: NewPod(object),
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

func (w *World) bind(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	object, cluster := scriptPod(t, d, string(uid)), value(d, "cluster")
	owner := OwnerOf(object)
	pod := w.pool.Larger(cluster, owner, NewPod(object))
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

func (w *World) look(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	cluster, pod := value(d, "cluster"), NewPod(scriptPod(t, d, string(uid)))
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

func (w *World) view() string {
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
		c := w.pool.clusters[cluster]
		for _, g := range c.guests {
			fmt.Fprintf(&out, "waiting %s expected on %s/%s\n", g.pod.Object.Name, cluster, c.snapshot.Nodes[g.node].Name())
		}
	}
	return out.String() + w.holds()
}

func (w *World) holds() string {
	var out strings.Builder
	for _, hold := range w.pool.Holds() {
		fmt.Fprintf(&out, "hold %s %s on %s/%s cpu=%s\n", hold.UID, hold.State, hold.Cluster, hold.Node, cpu(hold.Requests))
	}
	return out.String()
}

func cpu(r Resources) string {
	return resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI).String()
}
