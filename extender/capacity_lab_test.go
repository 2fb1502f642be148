package extender_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// roomBesideCordonedNodes: 10 nodes of 16 CPU, 5 cordoned and full of our pods, 5 empty. What is free on the 5 is free above.
func (r *rules) roomBesideCordonedNodes(t *testing.T) {
	newNamespace(t, r.upper, "rolling", true)
	defer r.empty(t, "rolling")
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			r.create(t, "rolling", pinned(newPod(fmt.Sprintf("full-%d", i), cpus(16)), "lower-1"))
		}
		lab.Eventually(t, time.Minute, func() error { return runs(t.Context(), r.upper, "rolling", to) })
	}
	fill(0, 5)
	for _, node := range r.nodes(t, 1) {
		if node.free[corev1.ResourceCPU] == 0 {
			r.patchNode(t, 1, node.name, cordon(true))
			defer r.patchNode(t, 1, node.name, cordon(false))
		}
	}
	r.followed(t)
	node, err := r.upper.CoreV1().Nodes().Get(t.Context(), "lower-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if free := node.Status.Allocatable.Cpu().Value() - 5*16; free < 5*16 {
		t.Errorf("the upper scheduler sees %d CPU free, the 5 empty nodes have 80", free)
	}
	fill(5, 10)
}

const (
	capacitySeed = 7
	nodeCPU      = 16000 // milli CPU of every lower node
)

// extenderFitsMeansSchedulerFits: over a seeded sequence of what happens in lower clusters, each virtual node shows what rule 3
// says, and no pod that the extender would take is refused by the scheduler's own filters, be it as large as the largest hole.
func (r *rules) extenderFitsMeansSchedulerFits(t *testing.T) {
	for _, c := range r.lower {
		newNamespace(t, c, "foreign", false)
	}
	for _, namespace := range []string{"own", "probe"} {
		newNamespace(t, r.upper, namespace, true)
		defer r.empty(t, namespace)
	}
	c := &capacity{rules: r, random: rand.New(rand.NewPCG(capacitySeed, 1))}
	defer c.repair(t)
	steps := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"own pods come", c.ownCome}, {"own pods finish", c.ownFinish}, {"own pods go", c.ownGo},
		{"foreign pods come", c.foreignCome}, {"foreign pods go", c.foreignGo},
		{"a node is cordoned or uncordoned", c.cordons}, {"a node gets NotReady or Ready", c.readiness},
		{"a node shrinks below its pods or grows back", c.sizes},
	}
	order := slices.Concat(c.random.Perm(len(steps)), c.random.Perm(len(steps)), c.random.Perm(len(steps)))
	c.foreignCome(t)
	c.ownCome(t)
	for _, i := range order {
		steps[i].do(t)
		r.followed(t)
		asked, yes := c.asked, c.yes
		c.probe(t)
		t.Logf("%s: asked %d times, yes %d times", steps[i].name, c.asked-asked, c.yes-yes)
		if t.Failed() {
			return // What comes next would speak of something else.
		}
	}
	if c.yes < len(order) {
		t.Errorf("only %d times yes in %d steps: this shows little", c.yes, len(order))
	}
	c.neverRefusedAbove(t)
}

// capacity is the run of that sequence.
type capacity struct {
	*rules
	random *rand.Rand
	made   int // pods, for their names
	asked  int // questions to the extender, one for each pod and cluster
	yes    int // answers of yes
}

func (c *capacity) name(kind string) string {
	c.made++
	return fmt.Sprintf("%s-%d", kind, c.made)
}

// shape is what a random pod asks for.
func (c *capacity) shape() amounts {
	shape := amounts{corev1.ResourceCPU: 500 * (1 + c.random.Int64N(24)), corev1.ResourceMemory: (1 + c.random.Int64N(32)) << 30}
	if c.random.IntN(4) == 0 {
		shape[gpu] = 1 + c.random.Int64N(4)
	}
	return shape
}

// ownCome adds pods that the extender says there is room for.
func (c *capacity) ownCome(t *testing.T) {
	for range 8 {
		pod := c.shape().pod(c.name("own"))
		if len(c.whatif(t, pod, "own")) == 0 {
			continue
		}
		c.create(t, "own", pod)
		lab.Eventually(t, time.Minute, func() error { return bound(t.Context(), c.upper, "own", pod.Name) })
	}
}

// ownFinish adds pods that come to their end; their objects stay.
func (c *capacity) ownFinish(t *testing.T) {
	for range 2 {
		pod := amounts{corev1.ResourceCPU: 500}.pod(c.name("done"))
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Annotations["lab.tessera.sh/run-seconds"] = "0"
		if len(c.whatif(t, pod, "own")) == 0 {
			continue
		}
		c.create(t, "own", pod)
		lab.Eventually(t, time.Minute, func() error {
			pod, err := c.upper.CoreV1().Pods("own").Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err == nil && pod.Status.Phase != corev1.PodSucceeded {
				err = fmt.Errorf("%s on %q is %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase)
			}
			return err
		})
	}
}

// ownGo deletes about half of our pods.
func (c *capacity) ownGo(t *testing.T) {
	pods, err := c.upper.CoreV1().Pods("own").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if c.random.IntN(2) == 0 {
			c.delete(t, "own", pod.Name)
		}
	}
}

// foreignCome adds pods of others, each on a node that has the room.
func (c *capacity) foreignCome(t *testing.T) {
	for k := range c.lower {
		for _, node := range c.nodes(t, k+1) {
			most := node.free[corev1.ResourceCPU] / 500
			if !node.usable || most < 1 || c.random.IntN(2) == 0 {
				continue
			}
			pod := amounts{corev1.ResourceCPU: 500 * (1 + c.random.Int64N(most)), corev1.ResourceMemory: 1 << 30}.pod(c.name("foreign"))
			pod.Spec.NodeName = node.name
			if _, err := c.lower[k].CoreV1().Pods("foreign").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// foreignGo deletes about half of the pods of others.
func (c *capacity) foreignGo(t *testing.T) {
	for _, lower := range c.lower {
		pods, err := lower.CoreV1().Pods("foreign").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			if c.random.IntN(2) == 0 {
				if err := lower.CoreV1().Pods("foreign").Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// cordons cordons a node of each cluster; where one is cordoned already, that one may be uncordoned instead.
func (c *capacity) cordons(t *testing.T) {
	c.toggle(t, func(n lowerNode) bool { return n.cordoned }, func(_ lowerNode, on bool) nodeChange { return cordon(on) })
}

// readiness does the same with the condition Ready.
func (c *capacity) readiness(t *testing.T) {
	c.toggle(t, func(n lowerNode) bool { return !n.ready }, func(_ lowerNode, on bool) nodeChange { return notReady(on) })
}

// sizes does the same with allocatable, which becomes smaller than what is used.
func (c *capacity) sizes(t *testing.T) {
	c.toggle(t, func(n lowerNode) bool { return n.allocatable[corev1.ResourceCPU] < nodeCPU }, func(n lowerNode, on bool) nodeChange {
		if !on {
			return resized(nodeCPU)
		}
		return resized((n.allocatable[corev1.ResourceCPU] - n.free[corev1.ResourceCPU]) / 2)
	})
}

// toggle changes a node of each cluster: back where is says that one has been changed and the coin agrees, else the fullest node
// or a random one.
func (c *capacity) toggle(t *testing.T, is func(lowerNode) bool, change func(node lowerNode, on bool) nodeChange) {
	for k := range c.lower {
		nodes := c.nodes(t, k+1)
		node := nodes[c.random.IntN(len(nodes))]
		if c.random.IntN(2) == 0 {
			node = slices.MinFunc(nodes, func(a, b lowerNode) int {
				return cmp.Compare(a.free[corev1.ResourceCPU], b.free[corev1.ResourceCPU])
			})
		}
		if i := slices.IndexFunc(nodes, is); i >= 0 && c.random.IntN(2) == 0 {
			node = nodes[i]
		}
		c.patchNode(t, k+1, node.name, change(node, !is(node)))
	}
}

// repair makes all nodes as they were and removes the pods of others.
func (c *capacity) repair(t *testing.T) {
	for k, lower := range c.lower {
		for _, node := range c.nodes(t, k+1) {
			for _, change := range []nodeChange{cordon(false), notReady(false), resized(nodeCPU)} {
				c.patchNode(t, k+1, node.name, change)
			}
		}
		if err := lower.CoreV1().Pods("foreign").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// probe asks the extender about the largest hole of each cluster, which fits exactly, and about a random shape. For every virtual
// node that it says takes the pod the pod is created. The room is given back afterwards.
func (c *capacity) probe(t *testing.T) {
	t.Helper()
	for k := range c.lower {
		hole := largestHole(c.nodes(t, k+1))
		if hole == nil {
			continue
		}
		takers := c.question(t, hole)
		if taker := c.lab.LowerName(k + 1); slices.Contains(takers, taker) {
			defer c.delete(t, "probe", c.accepted(t, hole, taker))
		} else {
			t.Errorf("%s has a hole of %v, the extender says that this fits into %v alone", taker, hole, takers)
		}
	}
	shape := c.shape()
	for _, taker := range c.question(t, shape) {
		defer c.delete(t, "probe", c.accepted(t, shape, taker))
	}
}

// question asks where a shape fits, and counts.
func (c *capacity) question(t *testing.T, shape amounts) []string {
	t.Helper()
	takers := c.whatif(t, shape.pod("question"), "probe")
	c.asked += len(c.lower)
	c.yes += len(takers)
	return takers
}

// accepted creates a pod for a virtual node, waits until it is bound there and returns its name.
func (c *capacity) accepted(t *testing.T, shape amounts, taker string) string {
	t.Helper()
	pod := pinned(shape.pod(c.name("probe")), taker)
	c.create(t, "probe", pod)
	c.boundTo(t, "probe", pod.Name, taker)
	return pod.Name
}

// whatif lists the virtual nodes that take the pod, by the extender's word. It is asked about the pod as the API server would
// store it, with the tolerations and the marks that admission gives it.
func (c *capacity) whatif(t *testing.T, pod *corev1.Pod, namespace string) []string {
	t.Helper()
	stored, err := c.upper.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Clusters []struct {
			VirtualNode string
			Fits        bool
		}
	}
	if err := post(t.Context(), c.lab.ExtenderURL()+"/debug/whatif", stored, &answer); err != nil {
		t.Fatal(err)
	}
	var takers []string
	for _, cluster := range answer.Clusters {
		if cluster.Fits {
			takers = append(takers, cluster.VirtualNode)
		}
	}
	return takers
}

// refusedForRoom are the words of the scheduler's own resource filter, as opposed to the extender's reasons.
var refusedForRoom = regexp.MustCompile(`Insufficient [a-z]|Too many pods`)

// neverRefusedAbove looks through what the scheduler has said: its own filter has not refused any pod, not even for a moment.
func (c *capacity) neverRefusedAbove(t *testing.T) {
	for _, namespace := range []string{"own", "probe"} {
		events, err := c.upper.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=FailedScheduling"})
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range events.Items {
			if refusedForRoom.MatchString(event.Note) {
				t.Errorf("the scheduler's own filter refused %s/%s: %s", namespace, event.Regarding.Name, event.Note)
			}
		}
	}
}
