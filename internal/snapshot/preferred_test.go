package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// field is a pool for tests of what is preferred: clusters of nodes of 4 CPUs and 16Gi.
type field struct {
	t     *testing.T
	pool  *Pool
	nodes map[string][]*corev1.Node // by cluster
	asked int
}

func newField(t *testing.T, clusters ...string) *field {
	t.Helper()
	f := &field{t: t, pool: NewPool(), nodes: map[string][]*corev1.Node{}}
	for _, name := range clusters {
		for n := range 3 {
			f.nodes[name] = append(f.nodes[name], fieldNode(fmt.Sprint(name, n), "4"))
		}
	}
	f.publish()
	return f
}

func fieldNode(name, cpu string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("16Gi"), "pods": resource.MustParse("110")}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return node
}

func (f *field) publish(pods ...*corev1.Pod) {
	for name, nodes := range f.nodes {
		var lower []*LowerPod
		for _, pod := range pods {
			if slices.ContainsFunc(nodes, func(n *corev1.Node) bool { return n.Name == pod.Spec.NodeName }) {
				lower = append(lower, NewLowerPod(pod, "us"))
			}
		}
		f.pool.Publish(time.Time{}, Of(name, nodes, lower, Namespaces{"default": {}}))
	}
}

// ask places a pod as the extender does, and returns the cluster and node.
func (f *field) ask(pod *corev1.Pod) (cluster, node string) {
	f.t.Helper()
	f.asked++
	uid := types.UID(fmt.Sprint("asked-", f.asked))
	pods := map[string]*Pod{}
	var verdicts []*Verdict
	for _, name := range f.pool.Clusters() {
		pods[name] = comingThrough(pod, name)
		v := f.pool.Judge(name, pods[name], uid)
		verdicts = append(verdicts, &v)
	}
	Weigh(verdicts)
	best := slices.MinFunc(verdicts, func(a, b *Verdict) int { return Tighter(*a, *b) })
	if !best.Fits {
		f.t.Fatalf("nowhere: %+v", best)
	}
	f.pool.Offer(time.Unix(int64(f.asked), 0), uid, Info{}, pods[best.Cluster], *best)
	return best.Cluster, best.Node
}

// comingThrough is a pod as it comes through the virtual node of a cluster.
func comingThrough(pod *corev1.Pod, cluster string) *Pod {
	whole, lower, over := seal.Of(pod), pod.DeepCopy(), pod.DeepCopy()
	virtualNode := map[string]string{keys.Cluster: cluster}
	whole.Below(virtualNode).Write(lower)
	whole.OverClusters().Write(over)
	reduced := NewPod(lower)
	reduced.Above = Above{Labels: virtualNode, Nodes: whole.PreferredAbove(virtualNode)}
	reduced.Prefer(over)
	return reduced
}

func appPod(app, cpu string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", Labels: map[string]string{"app": app}}}
	pod.Spec.Affinity = &corev1.Affinity{}
	pod.Spec.Containers = []corev1.Container{{}}
	if cpu != "" {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("256Mi")}
	}
	return pod
}

func termAbout(app, topology string) []corev1.WeightedPodAffinityTerm {
	return []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
		TopologyKey: topology, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
	}}}
}

func rather(pod *corev1.Pod, topology string) {
	pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: termAbout(pod.Labels["app"], topology),
	}
}

func evenly(pod *corev1.Pod, topology string) {
	pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pod.Labels["app"]}},
	})
}

func TestReplicasThatWouldRatherBeApart(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"preferred anti-affinity":            func(p *corev1.Pod) { rather(p, corev1.LabelHostname) },
		"ScheduleAnyway over host names":     func(p *corev1.Pod) { evenly(p, corev1.LabelHostname) },
		"both, and without requests":         func(p *corev1.Pod) { rather(p, corev1.LabelHostname); p.Spec.Containers = []corev1.Container{{}} },
		"both, and many nodes differ":        func(p *corev1.Pod) { rather(p, corev1.LabelHostname); evenly(p, corev1.LabelHostname) },
		"a constraint that speaks above too": func(p *corev1.Pod) { rather(p, corev1.LabelHostname); evenly(p, keys.Cluster) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, "a")
			pod := appPod("web", "500m")
			change(pod)
			on := map[string]int{}
			for range 6 {
				_, node := f.ask(pod)
				on[node]++
			}
			if want := (map[string]int{"a0": 2, "a1": 2, "a2": 2}); !maps.Equal(on, want) {
				t.Errorf("6 replicas lie on %v, want %v", on, want)
			}
		})
	}
}

// A Deployment that spreads over clusters does so as long as there is room, and is not kept waiting when there is none.
func TestScheduleAnywayOverClusters(t *testing.T) {
	f := newField(t, "a", "b")
	f.nodes["b"] = f.nodes["b"][:1]
	f.publish()
	pod := appPod("web", "1")
	evenly(pod, keys.Cluster)
	in := map[string]int{}
	for range 8 {
		cluster, _ := f.ask(pod)
		in[cluster]++
	}
	if in["a"] != 4 || in["b"] != 4 {
		t.Errorf("8 replicas are in %v, want 4 in each", in)
	}
	for range 4 {
		if cluster, _ := f.ask(pod); cluster != "a" {
			t.Errorf("b is full, and a pod goes to %s", cluster)
		}
	}
}

// Preferred node affinity may speak of clusters, and of nodes in some of them.
func TestPreferredClusters(t *testing.T) {
	f := newField(t, "a", "b")
	f.nodes["b"][2].Labels["disk"] = "ssd"
	f.publish()
	pod := appPod("web", "1")
	in := func(key string, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	prefers := func(weight int32, expressions ...corev1.NodeSelectorRequirement) corev1.PreferredSchedulingTerm {
		return corev1.PreferredSchedulingTerm{Weight: weight, Preference: corev1.NodeSelectorTerm{MatchExpressions: expressions}}
	}
	for want, terms := range map[string][]corev1.PreferredSchedulingTerm{
		"a a0": nil,
		"b b0": {prefers(1, in(keys.Cluster, "b"))},
		"b b2": {prefers(1, in(keys.Cluster, "b")), prefers(1, in(keys.Cluster, "a", "b"), in("disk", "ssd"))},
	} {
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
		cluster, node := f.ask(pod)
		if got := cluster + " " + node; got != want {
			t.Errorf("%v: it goes to %s, want %s", terms, got, want)
		}
		f.pool.Release(types.UID(fmt.Sprint("asked-", f.asked)))
	}
}

// Pods of others in a cluster are not the upper cluster's business.
func TestClustersCountOurPodsAlone(t *testing.T) {
	f := newField(t, "a", "b")
	stranger := appPod("web", "1")
	stranger.UID, stranger.Spec.NodeName = "s", "b0"
	ours := appPod("web", "1")
	ours.UID, ours.Spec.NodeName, ours.Annotations = "o", "a0", map[string]string{keys.UpperUID: "u"}
	ours.Labels[keys.Upper] = "us"
	f.publish(stranger, ours)
	pod := appPod("web", "1")
	rather(pod, keys.Cluster)
	if cluster, _ := f.ask(pod); cluster != "b" {
		t.Errorf("it goes to %s, where one of ours is", cluster)
	}
}

func TestPreferencesComeBeforeTightness(t *testing.T) {
	tight := appPod("other", "3")
	tight.UID, tight.Spec.NodeName = "t", "a0"
	for name, c := range map[string]struct {
		change func(f *field, pod *corev1.Pod)
		want   string
	}{
		"nothing is preferred": {func(*field, *corev1.Pod) {}, "a0"},
		"node affinity": {func(f *field, pod *corev1.Pod) {
			f.nodes["a"][2].Labels["disk"] = "ssd"
			pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}},
				}}},
			}}
		}, "a2"},
		"node affinity by name": {func(_ *field, pod *corev1.Pod) {
			pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 1, Preference: corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{
					{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{"a2"}},
				}}},
			}}
		}, "a2"},
		"a taint that prefers no pods": {func(f *field, _ *corev1.Pod) {
			f.nodes["a"][0].Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}}
		}, "a1"},
		"such a taint, tolerated": {func(f *field, pod *corev1.Pod) {
			f.nodes["a"][0].Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}}
			pod.Spec.Tolerations = []corev1.Toleration{{Key: "x", Operator: corev1.TolerationOpExists}}
		}, "a0"},
		"pod affinity": {func(_ *field, pod *corev1.Pod) {
			pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: termAbout("db", corev1.LabelHostname)}
		}, "a1"},
		"anti-affinity of a pod that is there": {func(_ *field, pod *corev1.Pod) { pod.Labels["app"] = "shunned" }, "a1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, "a")
			pod, db := appPod("web", "500m"), appPod("db", "100m")
			c.change(f, pod)
			db.UID, db.Spec.NodeName = "d", "a1"
			there := tight.DeepCopy()
			there.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: termAbout("shunned", corev1.LabelHostname),
			}
			f.publish(there, db)
			if _, node := f.ask(pod); node != c.want {
				t.Errorf("it goes to %s, want %s", node, c.want)
			}
			if candidates := f.pool.Candidates("a", NewPod(pod), "", 1); candidates[0] != c.want && name != "pod affinity" {
				t.Errorf("the exact path would look at %v first, want %s", candidates, c.want)
			}
		})
	}
}

// 40 pods that say nothing do not lie on one node, as such a pod counts 100m and 200Mi and takes nothing from any hole.
func TestPodsWithoutRequests(t *testing.T) {
	f := newField(t, "a", "b")
	f.nodes["c"] = []*corev1.Node{fieldNode("c0", "16")}
	f.publish()
	on := map[string]int{}
	for range 40 {
		_, node := f.ask(appPod("web", ""))
		on[node]++
	}
	if len(on) < 2 || slices.Max(slices.Collect(maps.Values(on))) > 36 {
		t.Errorf("40 pods lie on %v", on)
	}
	if _, node := f.ask(appPod("web", "2")); node == "c0" {
		t.Error("a pod with requests goes where it is tightest, with or without them")
	}
}

// What containers do not say counts in the score of every pod: a node on which it makes less than nothing free comes last.
func TestNodeWithLessThanNothingComesLast(t *testing.T) {
	f := newField(t, "a")
	var pods []*corev1.Pod
	for i := range 41 {
		pod := appPod("other", "")
		pod.UID, pod.Spec.NodeName = types.UID(fmt.Sprint(i)), "a1"
		pods = append(pods, pod)
	}
	f.publish(pods[:40]...)
	if _, node := f.ask(appPod("web", "100m")); node != "a1" {
		t.Errorf("with nothing free by its score, a1 is the tightest: it goes to %s", node)
	}
	f.publish(pods...)
	if _, node := f.ask(appPod("web", "100m")); node == "a1" {
		t.Error("it goes to a1, where less than nothing is free by the score")
	}
}

// unsaidOf is what NodeResourcesFit's score counts beyond the requests.
func TestUnsaid(t *testing.T) {
	container := func(requests ...string) corev1.Container {
		c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}}}
		for i := 0; i < len(requests); i += 2 {
			c.Resources.Requests[corev1.ResourceName(requests[i])] = resource.MustParse(requests[i+1])
		}
		return c
	}
	for name, c := range map[string]struct {
		init, containers []corev1.Container
		want             unsaid
	}{
		"nothing":                         {nil, []corev1.Container{container()}, unsaid{100, 200 << 20}},
		"of two containers one":           {nil, []corev1.Container{container("cpu", "1", "memory", "1Gi"), container()}, unsaid{100, 200 << 20}},
		"zero is said":                    {nil, []corev1.Container{container("cpu", "0")}, unsaid{0, 200 << 20}},
		"all":                             {nil, []corev1.Container{container("cpu", "1", "memory", "1Gi")}, unsaid{}},
		"an init container says less":     {[]corev1.Container{container()}, []corev1.Container{container("cpu", "1", "memory", "1Gi")}, unsaid{}},
		"an init container counts itself": {[]corev1.Container{container()}, []corev1.Container{container("cpu", "50m", "memory", "1Gi")}, unsaid{50, 0}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: c.init, Containers: c.containers}}
		if got := unsaidOf(pod, Requests(pod)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// What nobody prefers costs no look at scores.
func TestNothingPreferred(t *testing.T) {
	f := newField(t, "a")
	if s := f.pool.cells["a"].ask(NewPod(appPod("web", "1")), &f.pool.scale).scorer(); s != nil {
		t.Errorf("scores are looked at: %+v", s.scores)
	}
	f.ask(func() *corev1.Pod { p := appPod("web", "1"); rather(p, corev1.LabelHostname); return p }())
	if s := f.pool.cells["a"].ask(NewPod(appPod("db", "1")), &f.pool.scale).scorer(); s != nil {
		t.Errorf("scores are looked at for a pod that nobody speaks of: %+v", s.scores)
	}
}
