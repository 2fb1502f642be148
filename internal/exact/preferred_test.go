package exact_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

var (
	preferredPods = flag.Int("preferred-pods", 3000, "pods about which TestPreferencesAreTheSchedulers compares at least")
	preferredSeed = flag.Uint64("preferred-seed", 1, "seed of its first pool")
)

// TestPreferencesAreTheSchedulers compares what a pod prefers with the real Score plugins, over random pools of one to four clusters:
// these plugins see one flat cluster of all lower nodes, with the labels of the virtual nodes in front of them, and score the nodes
// that take the pod. No two nodes may come in another order, and the node that is chosen is one that they score highest.
func TestPreferencesAreTheSchedulers(t *testing.T) {
	t.Parallel()
	pods, compared, apart := 0, 0, 0
	for seed := *preferredSeed; pods < *preferredPods; seed++ {
		p := newFlatPool(t, seed)
		for i := range 20 {
			ours, theirs := p.compare(fmt.Sprintf("new-%d", i))
			pods++
			for x, a := range ours {
				for y, b := range ours {
					switch {
					case (a > b) != (theirs[x] > theirs[y]) || a == b != (theirs[x] == theirs[y]):
						t.Fatalf("seed %d, pod %d: %s has %d and %s %d, the plugins say %d and %d", seed, i, x, a, y, b, theirs[x], theirs[y])
					case a != b:
						apart++
					}
					compared++
				}
			}
		}
	}
	t.Logf("%d pods, %d pairs of nodes, of which %d differ", pods, compared, apart)
	if share := float64(apart) / float64(compared); share < 0.3 {
		t.Errorf("%.0f%% of the pairs differ: the random cases no longer test preferences", 100*share)
	}
}

// flatPool is some clusters, and all their nodes in one.
type flatPool struct {
	t      *testing.T
	random *source
	pool   *snapshot.Pool
	names  []string
	labels map[string]map[string]string // of the virtual node of each cluster
	flat   *exact.Cluster
	held   int
}

func newFlatPool(t *testing.T, seed uint64) *flatPool {
	t.Helper()
	p := &flatPool{t: t, random: newSource(seed), pool: snapshot.NewPool(), labels: map[string]map[string]string{}}
	s := p.random
	all := exact.Objects{Namespaces: namespaces()}
	for k := range 1 + s.IntN(4) {
		name := string(rune('a' + k))
		p.names = append(p.names, name)
		p.labels[name] = map[string]string{keys.Cluster: name, "tier": "upper"}
		if s.chance(0.8) {
			p.labels[name][keys.Zone] = pick(s, "east", "west")
		}
		content := snapshot.Content{Cluster: name, Own: map[types.UID]*snapshot.LowerPod{}}
		content.Namespaces = snapshot.Namespaces{}
		for _, space := range all.Namespaces {
			content.Namespaces[space.Name] = space.Labels
		}
		for i := range 1 + s.IntN(6) {
			node, pods := p.node(fmt.Sprintf("%s-node-%d", name, i), name)
			var lower []*snapshot.LowerPod
			for _, pod := range pods {
				lower = append(lower, snapshot.NewLowerPod(pod, "us"))
			}
			content.Nodes = append(content.Nodes, snapshot.NewNode(node, lower))
			flat := node.DeepCopy()
			maps.Copy(flat.Labels, p.labels[name])
			all.Nodes, all.Pods = append(all.Nodes, flat), append(all.Pods, pods...)
		}
		p.pool.Publish(time.Time{}, snapshot.New(content))
	}
	var err error
	if p.flat, err = exact.NewCluster(all); err != nil {
		t.Fatal(err)
	}
	return p
}

// node is one with pods on it. The domains of lower labels are in one cluster each, and all pods are ours, as clusters count
// these alone.
func (p *flatPool) node(name, cluster string) (*corev1.Node, []*corev1.Pod) {
	s := p.random
	node := s.node(name)
	node.Status.Conditions[0].Status = corev1.ConditionTrue
	if zone, ok := node.Labels["zone"]; ok {
		node.Labels["room"] = cluster + "-" + zone
	}
	for range s.IntN(3) {
		node.Spec.Taints = s.taint(node.Spec.Taints, corev1.Taint{Key: pick(s, "a", "b", "c"), Value: "1", Effect: corev1.TaintEffectPreferNoSchedule})
	}
	var pods []*corev1.Pod
	for j := range s.IntN(5) {
		pod := s.running(fmt.Sprintf("%s-pod-%d", name, j), name)
		p.prefer(pod)
		seal.Of(pod).Below(nil).Write(pod) // It has come down: what it says of clusters has stayed above.
		pod.Labels[keys.Upper] = "us"
		pod.Annotations = map[string]string{keys.UpperUID: pod.Name}
		pods = append(pods, pod)
	}
	return node, pods
}

// prefer gives a pod preferences, and required affinity that draws others.
func (p *flatPool) prefer(pod *corev1.Pod) {
	s := p.random
	topology := func() string {
		return pick(s, corev1.LabelHostname, corev1.LabelHostname, "room", "room", "rack", keys.Cluster, keys.Zone)
	}
	terms := func() (terms []corev1.WeightedPodAffinityTerm) {
		for range pick(s, 0, 0, 1, 2) {
			term := s.term(pod)
			term.TopologyKey = topology()
			terms = append(terms, corev1.WeightedPodAffinityTerm{Weight: 1 + s.Int32N(100), PodAffinityTerm: term})
		}
		return terms
	}
	required := pod.Spec.Affinity.PodAffinity
	pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms()}
	if required != nil && (pod.Spec.NodeName != "" || s.chance(0.2)) { // One that asks would fit nowhere too often.
		for i := range required.RequiredDuringSchedulingIgnoredDuringExecution {
			required.RequiredDuringSchedulingIgnoredDuringExecution[i].TopologyKey = pick(s, corev1.LabelHostname, "room")
		}
		pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required.RequiredDuringSchedulingIgnoredDuringExecution
	}
	pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms()}
	pod.Spec.TopologySpreadConstraints = nil
	if s.chance(0.5) {
		s.spread(pod)
	}
	used := map[string]bool{}
	pod.Spec.TopologySpreadConstraints = slices.DeleteFunc(pod.Spec.TopologySpreadConstraints, func(c corev1.TopologySpreadConstraint) bool { return c.TopologyKey == "rack" })
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		c.WhenUnsatisfiable, c.MinDomains = corev1.ScheduleAnyway, nil
		for c.TopologyKey = topology(); used[c.TopologyKey]; {
			c.TopologyKey = topology()
		}
		used[c.TopologyKey] = true
	}
	if s.chance(0.5) {
		if pod.Spec.Affinity.NodeAffinity == nil {
			pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
		}
		for range 1 + s.IntN(2) {
			pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(
				pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution, corev1.PreferredSchedulingTerm{
					Weight: 1 + s.Int32N(100), Preference: corev1.NodeSelectorTerm{MatchExpressions: p.requirements()},
				})
		}
	}
}

// requirements speak of lower nodes, of clusters or of both.
func (p *flatPool) requirements() (requirements []corev1.NodeSelectorRequirement) {
	s := p.random
	if s.chance(0.7) {
		requirements = append(requirements, s.requirement())
	}
	if len(requirements) == 0 || s.chance(0.3) {
		requirements = append(requirements, corev1.NodeSelectorRequirement{
			Key: keys.Cluster, Operator: pick(s, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{"a", "c"},
		})
	}
	return requirements
}

// comingThrough is a pod as it comes through a virtual node.
func comingThrough(pod *corev1.Pod, virtualNode map[string]string) *snapshot.Pod {
	whole, lower, over := seal.Of(pod), pod.DeepCopy(), pod.DeepCopy()
	whole.Below(virtualNode).Write(lower)
	whole.OverClusters().Write(over)
	reduced := snapshot.NewPod(lower)
	reduced.Above = snapshot.Above{Labels: virtualNode, Nodes: whole.PreferredAbove(virtualNode)}
	reduced.Prefer(over)
	return reduced
}

// compare asks both about a new pod, and lets it in where ours says.
func (p *flatPool) compare(name string) (ours, theirs map[string]int64) {
	p.t.Helper()
	s := p.random
	pod := s.pod(name)
	p.prefer(pod)
	if s.chance(0.5) {
		pod.Spec.NodeSelector = nil
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{}
	}
	asked := map[string]*snapshot.Pod{}
	var verdicts []*snapshot.Verdict
	var fitting []string
	barred := false
	for _, name := range p.names {
		asked[name] = comingThrough(pod, p.labels[name])
		v := p.pool.Judge(name, asked[name], pod.UID)
		verdicts = append(verdicts, &v)
		for node, reason := range p.pool.Takes(name, asked[name], pod.UID) {
			if reason == "" {
				fitting = append(fitting, node)
				barred = barred || !v.Fits // It wants to be near to pods that are in another cluster.
			}
		}
	}
	if barred || len(fitting) == 0 {
		return nil, nil
	}
	theirs, err := p.flat.Score(p.t.Context(), pod, fitting)
	if err != nil {
		p.t.Fatal(err)
	}
	ours = map[string]int64{}
	for _, nodes := range p.pool.Preferences(asked, pod.UID) {
		maps.Copy(ours, nodes)
	}
	snapshot.Weigh(verdicts)
	slices.SortFunc(verdicts, func(a, b *snapshot.Verdict) int { return snapshot.Tighter(*a, *b) })
	if best := verdicts[0]; theirs[best.Node] != slices.Max(slices.Collect(maps.Values(theirs))) {
		p.t.Fatalf("%s goes to %s with %d (%d to us): the plugins say %v", name, best.Node, theirs[best.Node], best.Preference, theirs)
	}
	bound := pod.DeepCopy()
	bound.Spec.NodeName = verdicts[0].Node
	p.pool.Offer(time.Unix(int64(p.held), 0), pod.UID, snapshot.Info{}, asked[verdicts[0].Cluster], *verdicts[0])
	p.held++
	if err := p.flat.AddPod(bound); err != nil {
		p.t.Fatal(err)
	}
	return ours, theirs
}
