package extender

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// newAcrossExtender knows the clusters a, b and c with a node of 16 CPUs each, whose label disk is the cluster's name; a and b are in
// zone east.
func newAcrossExtender(t *testing.T) *Extender {
	t.Helper()
	e := newExtender(DefaultConfig(), slog.New(slog.NewTextHandler(io.Discard, nil)), fake.NewClientset(), "test")
	e.ready.Store(true)
	for _, name := range []string{"a", "b", "c"} {
		e.addVirtualNode(t, name)
		e.join(t, name)
		node := e.upper.node(name).DeepCopy()
		if node.Labels[keys.Zone] = "east"; name == "c" {
			node.Labels[keys.Zone] = "west"
		}
		e.addNode(t, node)
		e.pool.Publish(time.Now(), snapshot.New(snapshot.Content{Cluster: name, Nodes: []*snapshot.Node{lowerNode(name, "16")}}))
	}
	return e
}

// webPod is a sealed pod with the label app=web.
func webPod(t *testing.T, name string, c seal.Constraints) *corev1.Pod {
	t.Helper()
	pod := testPod(name, "1")
	pod.Labels = map[string]string{"app": "web"}
	sealed, err := c.Seal(pod, keys.PolicyOnly)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

var web = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

func spreadOver(key string) seal.Constraints {
	return seal.Constraints{Spread: []corev1.TopologySpreadConstraint{
		{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: web},
	}}
}

func nearOver(key string) seal.Constraints {
	return seal.Constraints{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: web}},
	}}
}

func apartOver(key string) seal.Constraints {
	return seal.Constraints{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: web}},
	}}
}

// held asks about a pod and returns the cluster that it is held in, "" for none.
func (e *Extender) held(pod *corev1.Pod) string {
	names := []string{"a", "b", "c"}
	e.filter(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names})
	e.mu.Lock()
	defer e.mu.Unlock()
	if hold := e.pool.Hold(pod.UID); hold != nil {
		return hold.Cluster
	}
	return ""
}

// reasons are those of the last answer about a pod, by cluster; "" where it fits.
func (e *Extender) reasons(t *testing.T, pod *corev1.Pod) map[string]keys.Reason {
	t.Helper()
	last := e.lastAnswer(pod)
	if last == nil {
		t.Fatalf("no answer about %s", pod.Name)
	}
	reasons := map[string]keys.Reason{}
	for _, v := range last.verdicts {
		reasons[v.Cluster] = v.Reason
	}
	return reasons
}

func TestSpreadOverClusters(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	count := map[string]int{}
	for i := range 6 {
		count[e.held(webPod(t, fmt.Sprint("p", i), spreadOver(keys.Cluster)))]++
	}
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 2, "c": 2}, count); diff != "" {
		t.Errorf("six pods over three clusters (-want +got):\n%s", diff)
	}
}

// A cluster that the pod's selector leaves no node of is no domain, and one that is fenced off is none either.
func TestSpreadLeavesOutClustersThatCannotTakeThePod(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	c := spreadOver(keys.Cluster)
	c.Required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}},
	}}}}
	count := map[string]int{}
	for i := range 4 {
		count[e.held(webPod(t, fmt.Sprint("p", i), c))]++
	}
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 2}, count); diff != "" {
		t.Errorf("four pods over two of three clusters (-want +got):\n%s", diff)
	}
}

// TestFirstPodsAtOnce has the pods of a group that want to be near to each other asked about at once, none of them there: they start in
// one cluster, and in one zone.
func TestFirstPodsAtOnce(t *testing.T) {
	t.Parallel()
	for _, key := range []string{keys.Cluster, keys.Zone} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			e := newAcrossExtender(t)
			var group sync.WaitGroup
			for i := range 8 {
				pod := webPod(t, fmt.Sprint("p", i), nearOver(key))
				group.Go(func() { e.held(pod) })
			}
			group.Wait()
			domains := map[string]int{}
			for _, hold := range e.pool.Holds() {
				domains[e.upper.node(hold.Cluster).Labels[key]]++
			}
			if len(domains) != 1 || len(e.pool.Holds()) != 8 {
				t.Errorf("eight pods are held in %v, want all in one", domains)
			}
		})
	}
}

func TestAntiAffinityOverClusters(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	var pods []*corev1.Pod
	var clusters []string
	for i := range 4 {
		pod := webPod(t, fmt.Sprint("p", i), apartOver(keys.Cluster))
		pods, clusters = append(pods, pod), append(clusters, e.held(pod))
	}
	if slices.Sort(clusters[:3]); !slices.Equal(clusters, []string{"a", "b", "c", ""}) {
		t.Fatalf("four pods, one a cluster: %q", clusters)
	}
	all := map[string]keys.Reason{"a": keys.PodAffinity, "b": keys.PodAffinity, "c": keys.PodAffinity}
	if diff := cmp.Diff(all, e.reasons(t, pods[3])); diff != "" {
		t.Errorf("why the fourth waits (-want +got):\n%s", diff)
	}
	plain := webPod(t, "plain", seal.Constraints{})
	if in := e.held(plain); in != "" {
		t.Errorf("a pod that the others keep away is held in %s", in)
	}
	e.look, e.looked = nil, snapshot.Marks{}
	e.fitNow(t.Context(), time.Now()) // What has happened so far is seen.
	e.tell(pods[1], snapshot.UpperPod{UID: pods[1].UID, Gone: true})
	if fitting := e.fitNow(t.Context(), time.Now()); len(fitting) == 0 {
		t.Error("a pod has gone, and none of those that wait for it is woken")
	}
	if e.held(pods[3]) == "" {
		t.Errorf("the fourth pod is not held once another has gone: %v", e.reasons(t, pods[3]))
	}
}

// A term over zones keeps pods out of the other clusters of the zone, also where it is bound and counts below, and that zone alone.
func TestAntiAffinityOverZonesOfBoundPods(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	first := webPod(t, "first", apartOver(keys.Zone))
	below, err := e.compile(first, e.upper.node("a"))
	if err != nil {
		t.Fatal(err)
	}
	e.tell(first, snapshot.UpperPod{UID: first.UID, Cluster: "a", Pod: below})
	plain := webPod(t, "plain", seal.Constraints{})
	if in := e.held(plain); in != "c" {
		t.Errorf("held in %q, want c: %v", in, e.reasons(t, plain))
	}
	e.tell(first, snapshot.UpperPod{UID: first.UID, Finished: true})
	if e.held(plain); e.reasons(t, plain)["a"] != "" || e.reasons(t, plain)["b"] != "" {
		t.Errorf("a pod that has finished keeps others away: %v", e.reasons(t, plain))
	}
}

// What the scheduler did not ask about counts as well.
func TestClustersThatWereNotAskedCount(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	if e.held(webPod(t, "first", seal.Constraints{NodeSelector: map[string]string{"disk": "b"}})) != "b" {
		t.Fatal("the first pod is not in b")
	}
	names := []string{"a", "c"}
	pod := webPod(t, "second", nearOver(keys.Zone))
	e.filter(&extenderv1.ExtenderArgs{Pod: pod, NodeNames: &names})
	if diff := cmp.Diff(map[string]keys.Reason{"a": "", "c": keys.PodAffinity}, e.reasons(t, pod)); diff != "" {
		t.Errorf("near a pod of b, in the zone of a (-want +got):\n%s", diff)
	}
}

func TestWhatifOverClusters(t *testing.T) {
	t.Parallel()
	e := newAcrossExtender(t)
	pod := webPod(t, "p", apartOver(keys.Cluster))
	pod.UID = ""
	if got := e.whatif(pod, 10); got.Fitting != 3 {
		t.Errorf("%d of 10 pods fit that want a cluster each, want 3: %+v", got.Fitting, got.Clusters)
	}
	if holds := e.pool.Holds(); len(holds) > 0 || len(e.pool.Clusters()) != 3 {
		t.Errorf("a question has left %d holds", len(holds))
	}
}
