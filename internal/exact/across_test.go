package exact_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// acrossPairs is how many pairs of pod and world are compared.
const acrossPairs = 20_000

// TestAcrossIsTheSchedulersFit compares, cluster by cluster, what a sealed pod is told with what the real plugins say of the pod as it was
// written on one flat cluster, whose nodes carry the labels of their virtual nodes beside their own.
func TestAcrossIsTheSchedulersFit(t *testing.T) {
	t.Parallel()
	pairs, fitting, held, refused := 0, 0, 0, map[string]int{}
	for seed := uint64(1); pairs < acrossPairs; seed++ {
		w := newWorld(t, seed)
		for i := range 60 {
			pod := w.pod(fmt.Sprint("new-", i))
			ours, theirs := w.ours(pod), w.theirs(pod)
			for _, refusal := range theirs.refused {
				refused[refusal.Plugin]++
			}
			if !slices.Equal(ours, theirs.clusters) {
				t.Fatalf("seed %d, pod %d: the pool lets it into %v, the plugins into %v\n%s", seed, i, ours, theirs.clusters, w.text(pod, theirs))
			}
			pairs++
			if len(ours) > 0 {
				fitting++
			}
			held += w.next(pod, theirs)
		}
	}
	t.Logf("%d pairs of pod and world, %d of them fit somewhere, %d pods came; refused by plugin: %v", pairs, fitting, held, refused)
	if share := float64(fitting) / float64(pairs); share < 0.2 || share > 0.9 {
		t.Errorf("%.0f%% of the pods fit: the random cases no longer test both answers", 100*share)
	}
	for _, plugin := range []string{"PodTopologySpread", "InterPodAffinity", "NodeAffinity"} {
		if refused[plugin] < pairs/10 {
			t.Errorf("%s refused %d nodes in %d questions: the random cases no longer test it", plugin, refused[plugin], pairs)
		}
	}
}

// world is three lower clusters, twice: a pool with each of them, and one flat cluster.
type world struct {
	*source
	t        *testing.T
	virtual  []*corev1.Node
	nodes    []*corev1.Node           // flat
	of       map[string]*corev1.Node  // virtual node of each flat node
	own      map[string]*corev1.Node  // the same without its labels
	pods     []*corev1.Pod            // flat, as they were written, with their nodes
	on       map[types.UID]bool       // those that are there; the others are held
	stranger map[types.UID]bool       // those that are none of ours
	known    map[string]*snapshot.Pod // as they come through a virtual node, by the names of both
	there    map[types.UID]*snapshot.LowerPod
	pool     *snapshot.Pool
	plugins  *exact.Cluster
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		source: newSource(seed), t: t, of: map[string]*corev1.Node{}, own: map[string]*corev1.Node{}, on: map[types.UID]bool{}, stranger: map[types.UID]bool{},
		known: map[string]*snapshot.Pod{}, there: map[types.UID]*snapshot.LowerPod{}, pool: snapshot.NewPool(),
	}
	for k := range 3 {
		name := fmt.Sprint("c", k)
		virtual := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Cluster: name}}}
		if w.chance(0.8) {
			virtual.Labels[keys.Zone] = pick(w.source, "east", "west")
		}
		if w.chance(0.7) {
			virtual.Labels["region"] = pick(w.source, "1", "2")
		}
		w.virtual = append(w.virtual, virtual)
		for n := range w.IntN(6) {
			w.addNode(fmt.Sprintf("%s-node-%d", name, n), virtual)
		}
	}
	var err error
	if w.plugins, err = exact.NewCluster(exact.Objects{Namespaces: namespaces(), Nodes: w.nodes}); err != nil {
		t.Fatal(err)
	}
	for i := range w.IntN(16) {
		w.come(w.pod(fmt.Sprint("there-", i)), "", true)
	}
	w.publish()
	return w
}

// addNode makes a node that has room for all, of few kinds.
func (w *world) addNode(name string, virtual *corev1.Node) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	if w.chance(0.8) {
		node.Labels["disk"] = pick(w.source, "ssd", "hdd")
	}
	if w.chance(0.2) {
		node.Spec.Taints = w.taint(nil, corev1.Taint{Key: pick(w.source, "a", "b"), Effect: corev1.TaintEffectNoSchedule})
	}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("1000")}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	w.own[name] = node.DeepCopy()
	maps.Copy(node.Labels, virtual.Labels)
	w.nodes = append(w.nodes, node)
	w.of[name] = virtual
}

// pod has demands over clusters, and of nodes.
func (w *world) pod(name string) *corev1.Pod {
	s := w.source
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: s.namespace(), UID: uid(name), Labels: map[string]string{"app": pick(s, "a", "b"), "tier": pick(s, "front", "back")},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	if s.chance(0.3) {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: pick(s, "a", "b"), Operator: corev1.TolerationOpExists}}
	}
	if s.chance(0.3) {
		pod.Spec.NodeSelector = map[string]string{"disk": pick(s, "ssd", "hdd")}
	}
	if s.chance(0.15) {
		pod.Spec.NodeSelector = map[string]string{keys.Zone: pick(s, "east", "west")}
	}
	pod.Spec.Affinity = &corev1.Affinity{}
	if s.chance(0.15) {
		pod.Spec.Affinity.NodeAffinity = w.nodeAffinity()
	}
	if near := w.terms(pod, 0.25); len(near) > 0 {
		pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: near}
	}
	if apart := w.terms(pod, 0.25); len(apart) > 0 {
		pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: apart}
	}
	if s.chance(0.4) {
		s.spread(pod)
		for i := range pod.Spec.TopologySpreadConstraints {
			pod.Spec.TopologySpreadConstraints[i].TopologyKey = upperTopologies[(i+s.IntN(2))%len(upperTopologies)]
		}
		pod.Spec.TopologySpreadConstraints = slices.CompactFunc(pod.Spec.TopologySpreadConstraints,
			func(a, b corev1.TopologySpreadConstraint) bool { return a.TopologyKey == b.TopologyKey })
	}
	return pod
}

// upperTopologies are the keys that speak of clusters: two of ours, and one by configuration.
var upperTopologies = []string{keys.Cluster, keys.Zone, "region"}

func (w *world) terms(pod *corev1.Pod, chance float64) []corev1.PodAffinityTerm {
	terms := w.source.terms(pod, chance)
	for i := range terms {
		terms[i].TopologyKey = pick(w.source, upperTopologies...)
	}
	return terms
}

// nodeAffinity has alternatives of which each speaks of clusters, of nodes or of both.
func (w *world) nodeAffinity() *corev1.NodeAffinity {
	required := &corev1.NodeSelector{}
	in := func(key string, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
	}
	for range 1 + w.IntN(2) {
		term := corev1.NodeSelectorTerm{}
		if w.chance(0.6) {
			term.MatchExpressions = append(term.MatchExpressions, in(keys.Cluster, pick(w.source, "c0", "c1"), "c2"))
		}
		if w.chance(0.6) {
			term.MatchExpressions = append(term.MatchExpressions, in("disk", pick(w.source, "ssd", "hdd")))
		}
		required.NodeSelectorTerms = append(required.NodeSelectorTerms, term)
	}
	return &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}
}

// below is the pod as it comes through a virtual node, sealed as admission does and reduced as the extender does.
func (w *world) below(pod *corev1.Pod, virtual *corev1.Node) *snapshot.Pod {
	w.t.Helper()
	name := pod.Name + " " + virtual.Name
	if w.known[name] != nil {
		return w.known[name]
	}
	whole := seal.Of(pod)
	whole.UpperKeys = []string{"region"}
	sealed, err := whole.Seal(pod, keys.PolicyOnly)
	if err != nil {
		w.t.Fatal(err)
	}
	target := translate.Target{VirtualNode: virtual.Name, Labels: virtual.Labels, Identity: "us"}
	lower, err := translate.LowerPod(sealed, target)
	if err != nil {
		w.t.Fatal(err)
	}
	reduced := snapshot.NewPod(lower)
	reduced.Across = snapshot.NewAcross(translate.DemandsOverClusters(sealed, whole, target))
	w.known[name] = reduced
	return reduced
}

// ours are the clusters that the pool lets a pod into, of those that kube-scheduler's filters leave.
func (w *world) ours(pod *corev1.Pod) (clusters []string) {
	w.t.Helper()
	var sites []snapshot.Site
	for _, virtual := range w.virtual {
		sites = append(sites, snapshot.Site{Cluster: virtual.Name, Labels: virtual.Labels, Pod: w.below(pod, virtual)})
	}
	whole := seal.Of(pod)
	whole.UpperKeys = []string{"region"}
	above := labels.SelectorFromSet(whole.Above(keys.PolicyOnly).NodeSelector)
	reasons := w.pool.Across(sites, pod.UID)
	for i, s := range sites {
		if above.Matches(s.Labels) && w.pool.Judge(s.Cluster, s.Pod, pod.UID).Fits && reasons[i] == "" {
			clusters = append(clusters, s.Cluster)
		}
	}
	return clusters
}

// flat is what the plugins say.
type flat struct {
	clusters, nodes []string
	refused         map[string]exact.Refusal
}

func (w *world) theirs(pod *corev1.Pod) flat {
	w.t.Helper()
	fits, refused, err := w.plugins.Filter(w.t.Context(), pod)
	if err != nil {
		w.t.Fatal(err)
	}
	f := flat{nodes: fits, refused: refused}
	for _, node := range fits {
		f.clusters = append(f.clusters, w.of[node].Name)
	}
	slices.Sort(f.clusters)
	f.clusters = slices.Compact(f.clusters)
	return f
}

// next lets a pod that fits come, or another one go, and returns how many came.
func (w *world) next(pod *corev1.Pod, f flat) int {
	switch {
	case len(f.nodes) > 0 && w.chance(0.4):
		node := pick(w.source, f.nodes...)
		w.come(pod, node, w.chance(0.3))
		w.publish(w.of[node])
		return 1
	case len(w.pods) > 0 && w.chance(0.3):
		i := w.IntN(len(w.pods))
		gone := w.pods[i]
		w.pods = slices.Delete(w.pods, i, i+1)
		if err := w.plugins.RemovePod(gone); err != nil {
			w.t.Fatal(err)
		}
		w.pool.Observe(w.now(), snapshot.UpperPod{UID: gone.UID, Gone: true})
		w.publish(w.of[gone.Spec.NodeName])
	}
	return 0
}

// come puts a pod onto a node, "" is any: it is there, or held.
func (w *world) come(pod *corev1.Pod, node string, there bool) {
	w.t.Helper()
	if len(w.nodes) == 0 {
		return
	}
	pod = pod.DeepCopy()
	if pod.Spec.NodeName = node; node == "" {
		pod.Spec.NodeName = pick(w.source, w.nodes...).Name
	}
	if there && w.chance(0.2) {
		pod.DeletionTimestamp = &metav1.Time{Time: w.now()}
	}
	w.pods = append(w.pods, pod)
	if err := w.plugins.AddPod(pod); err != nil {
		w.t.Fatal(err)
	}
	virtual := w.of[pod.Spec.NodeName]
	w.on[pod.UID], w.stranger[pod.UID] = there, there && !demands(pod) && w.chance(0.5)
	if w.stranger[pod.UID] {
		return
	}
	below := w.below(pod, virtual)
	w.pool.Offer(w.now(), pod.UID, snapshot.Info{}, below, snapshot.Verdict{Cluster: virtual.Name, Fits: true, Node: pod.Spec.NodeName})
	if there || w.chance(0.5) { // Else it is offered and not bound yet.
		w.pool.Observe(w.now(), snapshot.UpperPod{UID: pod.UID, Cluster: virtual.Name, Pod: below})
	}
}

// demands reports whether a pod says anything of others: of strangers only the lower cluster would know.
func demands(pod *corev1.Pod) bool { return pod.Spec.Affinity.PodAntiAffinity != nil }

// publish tells the pool of lower clusters as they are, of all or of some.
func (w *world) publish(of ...*corev1.Node) {
	w.t.Helper()
	for _, virtual := range w.virtual {
		if len(of) > 0 && !slices.Contains(of, virtual) {
			continue
		}
		content := snapshot.Content{Cluster: virtual.Name, Own: map[types.UID]*snapshot.LowerPod{}}
		content.Namespaces = snapshot.Namespaces{}
		for _, space := range namespaces() {
			content.Namespaces[space.Name] = space.Labels
		}
		for _, node := range w.nodes {
			if w.of[node.Name] != virtual {
				continue
			}
			own := w.own[node.Name]
			var pods []*snapshot.LowerPod
			for _, pod := range w.pods {
				if pod.Spec.NodeName == node.Name && w.on[pod.UID] {
					lower := w.lower(pod, virtual)
					content.Add(lower)
					pods = append(pods, lower)
				}
			}
			content.Nodes = append(content.Nodes, snapshot.NewNode(own, pods))
		}
		w.pool.Publish(w.now(), snapshot.New(content))
	}
}

// lower is a pod as it is seen below: one of ours, or somebody else's with the same labels.
func (w *world) lower(pod *corev1.Pod, virtual *corev1.Node) *snapshot.LowerPod {
	if w.there[pod.UID] != nil {
		return w.there[pod.UID]
	}
	lower := w.below(pod, virtual).Object.DeepCopy()
	lower.UID, lower.Spec.NodeName, lower.DeletionTimestamp = "below-"+pod.UID, pod.Spec.NodeName, pod.DeletionTimestamp
	if w.stranger[pod.UID] {
		delete(lower.Labels, keys.Upper)
	}
	w.there[pod.UID] = snapshot.NewLowerPod(lower, "us")
	return w.there[pod.UID]
}

func (w *world) text(pod *corev1.Pod, f flat) string {
	s := scenario{Namespaces: namespaces(), Nodes: w.nodes, Pods: w.pods, Pod: pod}
	return fmt.Sprint(s.text(f.nodes), "\nthere: ", w.on, "\nrefused: ", f.refused)
}
