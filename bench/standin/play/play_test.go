package play

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/api"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// world is a cluster whose clock the test turns.
type world struct {
	*testing.T
	site   *Site
	player *Player
	now    time.Time
}

func newWorld(t *testing.T, seed uint64, size Size, rates Rates) *world {
	t.Helper()
	maker := objects.NewWorld(objects.Options{Seed: seed, Lean: true}).NewCluster(0)
	cluster := api.NewCluster("c", "token", map[string]objects.Maker{"nodes": objects.Nodes{Cluster: maker}, "pods": objects.Pods{Cluster: maker}})
	w := &world{T: t, now: time.Unix(1_800_000_000, 0)}
	w.site = Fill(cluster, maker, size, w.now)
	w.player = NewPlayer(seed, []*Site{w.site}, rates)
	return w
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(tick)
		w.player.step(w.now, tick)
		if w.now.UnixNano()%int64(time.Second) == 0 {
			w.player.slowly(w.now)
		}
	}
}

// state is what all pods are, without times and versions.
func (w *world) state() (all []string) {
	p := w.site.pods.Picture("")
	for i := range p.Items {
		r := p.Items[i].Row
		all = append(all, fmt.Sprint(w.site.pods.Name(&p.Items[i]), " ", r.Serial, " ", r.Node, " ", r.State))
	}
	return all
}

// check holds what every node has against the sum of its pods.
func (w *world) check() {
	w.Helper()
	free := map[int]objects.Amounts{}
	for i := range w.site.room {
		if w.site.room[i].gone {
			continue
		}
		free[i] = w.site.room[i].has
	}
	p := w.site.pods.Picture("")
	for i := range p.Items {
		item := &p.Items[i]
		if item.Object == nil && item.Node >= 0 {
			free[int(item.Node)] = free[int(item.Node)].Minus(w.site.maker.Asks(item.Shape))
		}
		if pod, ok := item.Object.(*corev1.Pod); ok && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded {
			node, _ := w.site.numberOf(pod.Spec.NodeName)
			free[node] = free[node].Minus(asks(pod))
		}
	}
	for i, want := range free {
		if got := w.site.room[i].free; got != want || !got.Covers(objects.Amounts{}) {
			w.Errorf("node %d: %+v free, by its pods %+v", i, got, want)
		}
	}
}

func (w *world) create(name string, change func(*corev1.Pod)) {
	w.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	admit.Begin(pod)
	pod.Status.Phase = corev1.PodPending
	pod.Spec.SchedulerName = corev1.DefaultSchedulerName
	pod.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"),
	}}}}
	if change != nil {
		change(pod)
	}
	if err := w.site.pods.Add(pod); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pod(name string) *corev1.Pod {
	item, ok := w.site.pods.Get("default", name)
	if !ok {
		return nil
	}
	return item.Object.(*corev1.Pod)
}

func TestSameSeedSameCluster(t *testing.T) {
	t.Parallel()
	after := func(seed uint64) []string {
		w := newWorld(t, seed, Size{Nodes: 50, Pods: 600, Pending: 0.05}, Rates{Churn: 200, Heartbeat: time.Second})
		w.check()
		w.pass(5 * time.Second)
		w.check()
		return w.state()
	}
	one, again, other := after(1), after(1), after(2)
	if diff := cmp.Diff(one, again); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(one, other) {
		t.Error("another seed plays the same")
	}
}

func TestChurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, Size{Nodes: 50, Pods: 600, Pending: 0.1}, Rates{Churn: 500, Heartbeat: 10 * time.Second})
	pending := 0
	for _, line := range w.state() {
		if strings.HasSuffix(line, fmt.Sprint(" -1 ", objects.PodUnschedulable)) {
			pending++
		}
	}
	if pending < 30 || pending > 100 {
		t.Errorf("%d of 600 pods are pending, about 60 were asked for", pending)
	}
	cursor, err := w.site.pods.Watch(w.site.pods.Oldest())
	if err != nil {
		t.Fatal(err)
	}
	w.pass(10 * time.Second)
	kinds := map[rows.EventType]int{}
	events, _, _, err := cursor.Read(make([]rows.Event, 0, 10_000))
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		kinds[events[i].Type]++
	}
	if n := len(events); n < 4900 || n > 5010 {
		t.Errorf("%d events in 10 s at 500 a second: %v", n, kinds)
	}
	if kinds[rows.Added] < 700 || kinds[rows.Deleted] < kinds[rows.Added] {
		t.Errorf("kinds of events: %v", kinds)
	}
	if beats := w.player.Beats.Load(); beats < 45 || beats > 50 {
		t.Errorf("%d heartbeats of 50 nodes in 10 s, each every 10 s", beats)
	}
	w.check()
}

func TestClientsPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, Size{Nodes: 3, Pods: 0}, Rates{})
	w.create("plain", nil)
	w.create("large", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("33") })
	w.create("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} })
	w.create("hinted", func(p *corev1.Pod) { p.Status.NominatedNodeName = objects.NodeName(2) })
	w.create("picky", func(p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: objects.NodeName(1)}
	})
	w.create("lost", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "none"} })
	w.create("others", func(p *corev1.Pod) { p.Spec.SchedulerName = "another" })
	w.create("device", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("1")
	})
	w.create("job", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Annotations = map[string]string{annotationRunSeconds: "2"}
	})
	w.pass(time.Second)
	w.check()
	got := map[string]string{}
	for _, name := range []string{"plain", "large", "gated", "hinted", "picky", "lost", "others", "device", "job"} {
		pod := w.pod(name)
		got[name] = string(pod.Status.Phase)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				got[name] += " " + c.Reason
			}
		}
		if name == "hinted" || name == "picky" {
			got[name] += " " + pod.Spec.NodeName
		}
	}
	if diff := cmp.Diff(map[string]string{
		"plain": "Running", "large": "Pending Unschedulable", "gated": "Pending SchedulingGated", "hinted": "Running node-000002",
		"picky": "Running node-000001", "lost": "Pending Unschedulable", "others": "Pending", "device": "Pending Unschedulable", "job": "Running",
	}, got); diff != "" {
		t.Error(diff)
	}
	w.pass(3 * time.Second)
	if job := w.pod("job"); job.Status.Phase != corev1.PodSucceeded {
		t.Error(job.Status.Phase)
	}
	w.check()
}

// Room that comes, by a node that somebody adds, is taken by a pod that waits; a cordoned one takes nothing.
func TestNodesOfClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, Size{Nodes: 1, Pods: 0}, Rates{})
	_, err := w.site.nodes.Change("", objects.NodeName(0), func(item rows.Item) (rows.Next, error) {
		node := objects.Of(w.site.nodes.Maker, item).DeepCopyObject().(*corev1.Node)
		node.Spec.Unschedulable = true
		item.Object = node
		return rows.Next{Item: item}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.create("p", nil)
	w.pass(time.Second)
	if w.pod("p").Spec.NodeName != "" {
		t.Error("a cordoned node takes pods")
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}}
	admit.Begin(node)
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("1")}
	if err := w.site.nodes.Add(node); err != nil {
		t.Fatal(err)
	}
	w.pass(3 * time.Second)
	if pod := w.pod("p"); pod.Spec.NodeName != "new" || pod.Status.Phase != corev1.PodRunning {
		t.Errorf("%s on %q", pod.Status.Phase, pod.Spec.NodeName)
	}
	w.check()
}

// A namespace that is deleted is emptied first; quotas count.
func TestNamespacesEndAndQuotasCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, Size{Nodes: 20, Pods: 200}, Rates{})
	name := w.site.maker.Namespaces[0]
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "q"}}
	admit.Begin(quota)
	quota.Spec.Hard = corev1.ResourceList{"count/pods": resource.MustParse("1k"), "count/configmaps": resource.MustParse("1k"), "count/leases.coordination.k8s.io": resource.MustParse("1")}
	if err := w.site.quotas.Add(quota); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Second)
	item, _ := w.site.quotas.Get(name, "q")
	used := item.Object.(*corev1.ResourceQuota).Status.Used
	pods := used["count/pods"]
	maps := used["count/configmaps"]
	if want := int64(w.site.pods.LenOf(name)); len(used) != 3 || pods.Value() != want || want == 0 || maps.Value() != 1 {
		t.Errorf("used %v, %d pods are there", used, want)
	}
	if _, err := w.site.spaces.Change("", name, func(item rows.Item) (rows.Next, error) {
		namespace := item.Object.DeepCopyObject().(*corev1.Namespace)
		namespace.DeletionTimestamp = &metav1.Time{Time: w.now}
		item.Object = namespace
		return rows.Next{Item: item}, nil
	}); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Second)
	if _, ok := w.site.spaces.Get("", name); ok || w.site.pods.LenOf(name) > 0 {
		t.Errorf("the namespace is there: %t, with %d pods", ok, w.site.pods.LenOf(name))
	}
	w.check()
}
