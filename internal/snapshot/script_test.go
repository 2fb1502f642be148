package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestScripts runs the stories under testdata: what is seen goes in, verdicts, holds and views come out.
// `go test ./internal/snapshot -rewrite` writes what comes out; review it like code.
//
//	node a/n1 cpu=4 [cordoned] [notready]     a lower node as it is from now on
//	pod a/x node=n1 cpu=2 [own=UID] [hint=n1] [finished] [unschedulable]
//	remove a/x                                a node or pod that has gone
//	publish a                                 what is there becomes the snapshot of a
//	filter UID cpu=2                          check and hold in one step
//	judge UID cpu=2                           the same question without a hold
//	upper UID [bound=a] [chosen=a] [refused=2s] [finished] [gone] cpu=2
//	wait 61s                                  time passes, offers may end
//	forget a                                  the cluster leaves
//	view                                      free - held of every node, and the holds
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{pool: NewPool(), now: time.Unix(1000, 0), nodes: map[string]*corev1.Node{}, pods: map[string]*LowerPod{}}
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
		w.pods[name] = &LowerPod{
			Node: value(d, "node"), Requests: requests(t, d), Finished: d.HasArg("finished"),
			UpperUID: types.UID(value(d, "own")), Hint: value(d, "hint"), Unschedulable: d.HasArg("unschedulable"),
		}
	case "remove":
		delete(w.nodes, name)
		delete(w.pods, name)
	case "publish":
		return w.publish(name)
	case "filter", "judge":
		return w.filter(t, d, types.UID(name))
	case "upper":
		return w.upper(t, d, types.UID(name))
	case "wait":
		passed, err := time.ParseDuration(name)
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(passed)
		return fmt.Sprintf("offers ended: %d\n", w.pool.Expire(w.now))
	case "forget":
		w.pool.Forget(name)
	case "view":
		return w.view()
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (w *world) publish(cluster string) string {
	byNode, own, count := map[string][]*LowerPod{}, map[types.UID]*LowerPod{}, 0
	for name, pod := range w.pods {
		if strings.HasPrefix(name, cluster+"/") {
			byNode[pod.Node] = append(byNode[pod.Node], pod)
			if pod.UpperUID != "" {
				own[pod.UpperUID] = pod
			}
			count++
		}
	}
	var nodes []*Node
	for name, node := range w.nodes {
		if strings.HasPrefix(name, cluster+"/") {
			nodes = append(nodes, NewNode(node, byNode[node.Name]))
		}
	}
	overpromised := w.pool.Publish(New(cluster, nodes, own, count))
	if len(overpromised) > 0 {
		return fmt.Sprintf("overpromised: %v\n", overpromised) + w.view()
	}
	return w.view()
}

func (w *world) filter(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	pod := &Pod{Requests: requests(t, d)}
	var verdicts []Verdict
	for _, cluster := range w.pool.Clusters() {
		verdicts = append(verdicts, w.pool.Judge(cluster, pod, uid))
	}
	slices.SortFunc(verdicts, Tighter)
	if d.Cmd == "filter" && len(verdicts) > 0 {
		if verdicts[0].Fits {
			w.pool.Offer(w.now, uid, Info{Name: string(uid)}, pod, verdicts[0])
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

func (w *world) upper(t *testing.T, d *datadriven.TestData, uid types.UID) string {
	seen := UpperPod{
		UID: uid, Info: Info{Name: string(uid)}, Cluster: value(d, "bound"), Chosen: value(d, "chosen"),
		Finished: d.HasArg("finished"), Gone: d.HasArg("gone"), Pod: &Pod{Requests: requests(t, d)},
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

func (w *world) view() string {
	var out strings.Builder
	for _, cluster := range w.pool.Clusters() {
		for _, node := range w.pool.Snapshot(cluster).Nodes {
			held := w.pool.Held(cluster, node.Name())
			fmt.Fprintf(&out, "%s/%s free=%s held=%s\n", cluster, node.Name(), cpu(node.Free()), cpu(held))
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

func scriptNode(t *testing.T, d *datadriven.TestData, name string) *corev1.Node {
	node := &corev1.Node{}
	_, node.Name, _ = strings.Cut(name, "/")
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

func requests(t *testing.T, d *datadriven.TestData) Resources {
	r := FromList(list(t, d))
	r.Pods = 1
	return r
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
