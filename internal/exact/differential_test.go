package exact_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// differentialPairs is how many (pod, node) pairs have to be compared before the two truths count as one.
const differentialPairs = 20_000

// TestFitIsTheSchedulersFit compares internal/snapshot with the real filter plugins over random clusters, node by node,
// while pods come: every pod that fits somewhere is held in the pool where Judge wants it, and bound there for the plugins.
func TestFitIsTheSchedulersFit(t *testing.T) {
	t.Parallel()
	pairs, fitting := 0, 0
	for seed := uint64(1); pairs < differentialPairs; seed++ {
		c := newComparison(t, seed)
		for i := range 25 {
			c.arrive(c.random.pod(fmt.Sprintf("new-%d", i)))
		}
		pairs += c.pairs
		fitting += c.fitting
		if t.Failed() {
			t.Fatalf("stopped at seed %d", seed)
		}
	}
	t.Logf("%d pairs of pod and node compared, %d of them fit, no disagreement", pairs, fitting)
	if share := float64(fitting) / float64(pairs); share < 0.05 || share > 0.95 {
		t.Errorf("%.0f%% of the pairs fit: the random cases no longer test both answers", 100*share)
	}
}

// comparison is one random cluster, twice.
type comparison struct {
	t              *testing.T
	random         *source
	nodes          map[string]*corev1.Node
	pods           map[string][]*corev1.Pod // by node
	exact          *exact.Cluster
	pool           *snapshot.Pool
	pairs, fitting int
}

func newComparison(t *testing.T, seed uint64) *comparison {
	t.Helper()
	c := &comparison{
		t: t, random: &source{rand.New(rand.NewPCG(seed, 7))}, pool: snapshot.NewPool(),
		nodes: map[string]*corev1.Node{}, pods: map[string][]*corev1.Pod{},
	}
	var nodes []*corev1.Node
	var all []*corev1.Pod
	var reduced []*snapshot.Node
	for i := range 1 + c.random.IntN(20) {
		node := c.random.node(fmt.Sprintf("node-%02d", i))
		var lower []*snapshot.LowerPod
		for j := range c.random.IntN(5) {
			pod := c.random.running(fmt.Sprintf("%s-pod-%d", node.Name, j), node.Name)
			c.pods[node.Name] = append(c.pods[node.Name], pod)
			lower = append(lower, snapshot.NewLowerPod(pod, ""))
		}
		nodes, all = append(nodes, node), append(all, c.pods[node.Name]...)
		reduced = append(reduced, snapshot.NewNode(node, lower))
		c.nodes[node.Name] = node
	}
	var err error
	if c.exact, err = exact.New(t.Context(), nodes, all); err != nil {
		t.Fatal(err)
	}
	c.pool.Publish(snapshot.New("lower", reduced, nil, len(all)))
	return c
}

// arrive compares every node's answer and Judge's, then lets the pod in.
func (c *comparison) arrive(pod *corev1.Pod) {
	c.t.Helper()
	fits, reasons, err := c.exact.Filter(c.t.Context(), pod)
	if err != nil {
		c.t.Fatal(err)
	}
	reduced := snapshot.NewPod(pod)
	for _, node := range c.pool.Snapshot("lower").Nodes {
		reason, ok := reduced.Fits(node, node.Free().Minus(c.pool.Held("lower", node.Name())))
		exactly := slices.Contains(fits, node.Name())
		// The Ready condition is ours alone: a node that has just stopped may not have its taint yet.
		if ok != (exactly && node.Ready) {
			c.disagree(pod, node.Name(), fmt.Sprintf("snapshot: fits=%v %s; plugins: fits=%v %s", ok, reason, exactly, reasons[node.Name()]))
		}
		c.pairs++
		if ok {
			c.fitting++
		}
	}
	verdict := c.pool.Judge("lower", reduced, pod.UID)
	ready := slices.ContainsFunc(fits, func(name string) bool { return c.pool.Snapshot("lower").Node(name).Ready })
	if verdict.Fits != ready || verdict.Fits && !slices.Contains(fits, verdict.Node) {
		c.disagree(pod, verdict.Node, fmt.Sprintf("Judge: %+v; plugins: %v", verdict, fits))
	}
	if !verdict.Fits {
		return
	}
	c.pool.Offer(c.random.now(), pod.UID, snapshot.Info{Name: pod.Name}, reduced, verdict)
	bound := pod.DeepCopy()
	bound.Spec.NodeName = verdict.Node
	c.pods[verdict.Node] = append(c.pods[verdict.Node], bound)
	if err := c.exact.AddPod(bound); err != nil {
		c.t.Fatal(err)
	}
}

// disagree prints all that is needed to see the case.
func (c *comparison) disagree(pod *corev1.Pod, node, what string) {
	c.t.Helper()
	text := func(object any) string {
		out, err := yaml.Marshal(object)
		if err != nil {
			c.t.Fatal(err)
		}
		return string(out)
	}
	c.t.Errorf("pod %s on node %s: %s\n--- pod\n%s--- node\n%s--- its pods\n%s", pod.Name, node, what,
		text(pod.Spec), text(c.nodes[node]), text(c.pods[node]))
}

func uid(name string) types.UID { return types.UID("uid-" + name) }
