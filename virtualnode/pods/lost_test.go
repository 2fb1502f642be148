package pods

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
)

// onNode runs a lower pod on node n1. Deleted ones were to be gone in 1970.
func onNode(pod *corev1.Pod) { pod.Spec.NodeName, pod.Status.Phase = "n1", corev1.PodRunning }

func node(ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
	}}
}

// A pod fails above, once, when its lower node is lost for certain, and in no other case.
func TestLostNode(t *testing.T) {
	t.Parallel()
	running := upperPod("1", phase(corev1.PodRunning))
	hanging := lowerPod("1", onNode, deleting(30))
	patience := func(p *corev1.Pod) {
		onNode(p)
		deleting(30)(p)
		later := metav1.NewTime(time.Now().Add(time.Minute))
		p.DeletionTimestamp = &later
	}
	cases := map[string]struct {
		above, lower *corev1.Pod
		below        []runtime.Object // beside the pod
		known        bool             // the snapshot says that the node is ready
		unreachable  bool
		fails        bool
	}{
		"node NotReady":                    {running, hanging, []runtime.Object{node(corev1.ConditionFalse)}, false, false, true},
		"node silent":                      {running, hanging, []runtime.Object{node(corev1.ConditionUnknown)}, false, false, true},
		"node gone":                        {running, hanging, nil, false, false, true},
		"node Ready, the snapshot is old":  {running, hanging, []runtime.Object{node(corev1.ConditionTrue)}, false, false, false},
		"node Ready":                       {running, hanging, []runtime.Object{node(corev1.ConditionTrue)}, true, false, false},
		"cluster out of reach":             {running, hanging, nil, false, true, false},
		"not deleted":                      {running, lowerPod("1", onNode), nil, false, false, false},
		"grace not over":                   {running, lowerPod("1", patience), nil, false, false, false},
		"containers have ended":            {running, lowerPod("1", onNode, deleting(30), phase(corev1.PodFailed)), nil, false, false, false},
		"being deleted above as well":      {upperPod("1", phase(corev1.PodRunning), deleting(30)), hanging, nil, false, false, false},
		"deleted above, the cache is late": {running, hanging, nil, false, false, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			above := []runtime.Object{c.above}
			if name == "deleted above, the cache is late" {
				above = nil
			}
			b := newBed(t, above, append(c.below, c.lower))
			b.NodeReady = func(string) bool { return c.known }
			b.Reachable = func() bool { return !c.unreachable }
			_ = b.Above.Add(c.above)
			_ = b.Below.Add(c.lower)
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			after, err := b.upper.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
			if err != nil {
				after = c.above
			}
			if failed := after.Status.Reason == up.ReasonNodeLost && held(after); failed != c.fails {
				t.Errorf("above: %s %q, finalizers %v", after.Status.Phase, after.Status.Reason, after.Finalizers)
			}
			for _, call := range calls(b.lower) {
				if call != "patch pods" { // The note of what is below.
					t.Errorf("written below: %s", call)
				}
			}
		})
	}
}

// The object of an abandoned pod goes when its lower pod has gone, and not before; its lower pod is not taken away by force.
func TestAbandonedPodIsKept(t *testing.T) {
	t.Parallel()
	abandoned := upperPod("1", phase(corev1.PodFailed), kept)
	deleted := upperPod("1", phase(corev1.PodFailed), kept, deleting(0))
	hanging := lowerPod("1", onNode, deleting(30))
	for name, c := range map[string]struct {
		upper, cached, below *corev1.Pod
		want                 []string
	}{
		"still below":                        {abandoned, hanging, hanging, nil},
		"gone below":                         {abandoned, nil, nil, []string{"patch pods"}},
		"the cache below is late":            {abandoned, nil, hanging, nil},
		"still below, deleted above":         {deleted, hanging, hanging, nil},
		"gone below, deleted above":          {deleted, nil, nil, []string{"delete pods", "patch pods"}},
		"deleted above, the cache is behind": {deleted, nil, hanging, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var below []runtime.Object
			if c.below != nil {
				below = append(below, c.below)
			}
			b := newBed(t, []runtime.Object{c.upper}, below)
			_ = b.Above.Add(c.upper)
			if c.cached != nil {
				_ = b.Below.Add(c.cached)
			}
			if err := b.step(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, calls(b.upper)); diff != "" {
				t.Errorf("writes above: %s", diff)
			}
			if got := calls(b.lower); c.cached != nil && got != nil {
				t.Errorf("written below: %v", got)
			}
		})
	}
}

func TestLetGoTakesOurFinalizerAlone(t *testing.T) {
	t.Parallel()
	upper := upperPod("1", phase(corev1.PodFailed), func(p *corev1.Pod) { p.Finalizers = []string{"batch.kubernetes.io/job-tracking", keys.LowerPod} })
	b := newBed(t, []runtime.Object{upper}, nil)
	if err := b.letGo(t.Context(), upper); err != nil {
		t.Fatal(err)
	}
	after, err := b.upper.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"batch.kubernetes.io/job-tracking"}, after.Finalizers); diff != "" {
		t.Error(diff)
	}
}
