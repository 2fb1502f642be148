package exact_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/exact"
)

func resources(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func node(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"host": name}}}
	n.Status.Allocatable = resources("cpu", "4", "memory", "8Gi", "pods", "10")
	for _, e := range edit {
		e(n)
	}
	return n
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "a"}}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: resources("cpu", "1")}}}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func requests(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources(pairs...) }
}

func port(number int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: number, HostPort: number, Protocol: corev1.ProtocolTCP}}
	}
}

func selectsHost(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"host": name} }
}

// ownApp selects the pods that pod() makes.
func ownApp() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
}

func apart(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: ownApp(), TopologyKey: "host"}},
	}}
}

func spread(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "host", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: ownApp(),
	}}
}

func matchFields(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
			}}},
		}}
	}
}

// Every plugin bites: of the nodes a and b, the one named in refused is refused by that plugin, and the other fits.
func TestEveryPluginBites(t *testing.T) {
	t.Parallel()
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tainted := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}} }
	full := func(n *corev1.Node) { n.Status.Allocatable = resources("cpu", "4", "memory", "8Gi", "pods", "1") }
	cases := map[string]struct {
		a       *corev1.Node
		running []*corev1.Pod
		pod     *corev1.Pod
		reason  string // of node a, a part of it
	}{
		"cordoned":         {a: node("a", cordoned), pod: pod("p"), reason: "NodeUnschedulable: "},
		"named node":       {a: node("a"), pod: pod("p", on("b")), reason: "NodeName: "},
		"taint":            {a: node("a", tainted), pod: pod("p"), reason: "TaintToleration: "},
		"node selector":    {a: node("a"), pod: pod("p", selectsHost("b")), reason: "NodeAffinity: "},
		"affinity by name": {a: node("a"), pod: pod("p", matchFields("b")), reason: "NodeAffinity: "},
		"host port":        {a: node("a"), running: []*corev1.Pod{pod("r", on("a"), port(80))}, pod: pod("p", port(80)), reason: "NodePorts: "},
		"cpu":              {a: node("a"), running: []*corev1.Pod{pod("r", on("a"), requests("cpu", "3500m"))}, pod: pod("p"), reason: "Insufficient cpu"},
		"memory":           {a: node("a"), running: []*corev1.Pod{pod("r", on("a"), requests("memory", "8Gi"))}, pod: pod("p", requests("memory", "1")), reason: "Insufficient memory"},
		"pods":             {a: node("a", full), running: []*corev1.Pod{pod("r", on("a"))}, pod: pod("p"), reason: "Too many pods"},
		"anti-affinity":    {a: node("a"), running: []*corev1.Pod{pod("r", on("a"))}, pod: pod("p", apart), reason: "InterPodAffinity: "},
		"their antipathy":  {a: node("a"), running: []*corev1.Pod{pod("r", on("a"), apart)}, pod: pod("p"), reason: "InterPodAffinity: "},
		"spread":           {a: node("a"), running: []*corev1.Pod{pod("r", on("a"))}, pod: pod("p", spread), reason: "PodTopologySpread: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := exact.Fits(t.Context(), []*corev1.Node{c.a, node("b")}, c.running, c.pod)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got["a"], c.reason) {
				t.Errorf("node a: got %q, want a reason with %q", got["a"], c.reason)
			}
			if reason, asked := got["b"]; !asked || reason != "" {
				t.Errorf("node b: got %q (asked: %v), want a fit", reason, asked)
			}
		})
	}
}

func TestExtendedResourceThatNobodyHas(t *testing.T) {
	t.Parallel()
	got, err := exact.Fits(t.Context(), []*corev1.Node{node("a")}, nil, pod("p", requests("example.com/gpu", "1")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "NodeResourcesFit: Insufficient example.com/gpu"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The key that marks Tessera's pods has quantity zero, and zero of a resource that no node has fits every node.
func TestZeroOfAnExtendedResourceFits(t *testing.T) {
	t.Parallel()
	got, err := exact.Fits(t.Context(), []*corev1.Node{node("a")}, nil, pod("p", requests("cpu", "1", "tessera.sh/pod", "0")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPodsComeAndGo(t *testing.T) {
	t.Parallel()
	ended := pod("ended", on("a"), requests("cpu", "4"))
	ended.Status.Phase = corev1.PodSucceeded
	unbound := pod("unbound", requests("cpu", "4"))
	cluster, err := exact.New(t.Context(), []*corev1.Node{node("a"), node("b")}, []*corev1.Pod{ended, unbound})
	if err != nil {
		t.Fatal(err)
	}
	big := pod("big", requests("cpu", "3"))
	expect := func(when string, want ...string) {
		t.Helper()
		fits, reasons, err := cluster.Filter(t.Context(), big)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, fits); diff != "" {
			t.Errorf("%s: fits differ (-want +got):\n%s", when, diff)
		}
		if got := len(slices.Collect(maps.Keys(reasons))) + len(fits); got != 2 {
			t.Errorf("%s: %d verdicts, want one for each of 2 nodes", when, got)
		}
	}
	expect("ended and unbound pods only", "a", "b")
	running := pod("running", on("a"), requests("cpu", "2"))
	if err := cluster.AddPod(running); err != nil {
		t.Fatal(err)
	}
	expect("after a pod of 2 came to a", "b")
	if err := cluster.RemovePod(running); err != nil {
		t.Fatal(err)
	}
	expect("after it went", "a", "b")
}

func TestAPodWithoutUIDIsAnError(t *testing.T) {
	t.Parallel()
	nameless := pod("p", on("a"))
	nameless.UID = ""
	if _, err := exact.New(t.Context(), []*corev1.Node{node("a")}, []*corev1.Pod{nameless}); err == nil {
		t.Error("no error for a bound pod without UID")
	}
}
