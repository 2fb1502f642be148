package lower

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// TestRandomEvents lets nodes and pods come, change and go at random, with gaps of both kinds, and compares what is
// published in the end with what is there. Every snapshot on the way is looked at as well.
func TestRandomEvents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			r := &rush{Rand: rand.New(rand.NewPCG(seed, 3)), server: s, nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}}
			r.steps(30)
			f := follow(t, s)
			for round := range 2 {
				r.steps(100)
				f.until(r.differs)
				s.leave()
				r.steps(40)
				s.comeBack(round%2 == 0)
			}
			f.until(r.differs)
			follow(t, s).until(r.differs) // A watch that starts now sees the same.
		})
	}
}

// rush changes an API server at random, as the API allows: a pod that has a node keeps it.
type rush struct {
	*rand.Rand
	server *apiServer
	nodes  map[string]*corev1.Node
	pods   map[string]*corev1.Pod // by name
	born   int
}

func (r *rush) steps(n int) {
	for range n {
		r.step()
	}
}

func (r *rush) step() {
	node := fmt.Sprint("n", r.IntN(5))
	name := fmt.Sprint("p", r.IntN(12))
	pod := r.pods[name]
	switch r.IntN(9) {
	case 0:
		object := lowerNode(node)
		object.Labels = map[string]string{"age": fmt.Sprint(r.IntN(3))}
		object.Spec.Unschedulable = r.IntN(3) == 0
		if r.IntN(4) == 0 {
			object.Status.Conditions[0].Status = corev1.ConditionUnknown
		}
		object.Status.Allocatable["cpu"] = *resource.NewQuantity([]int64{8, 8, 1, 16}[r.IntN(4)], resource.DecimalSI)
		r.nodes[node] = object
		r.server.set(object)
		return
	case 1:
		delete(r.nodes, node)
		r.server.remove(lowerNode(node))
		return
	case 2:
		if pod != nil {
			delete(r.pods, name)
			r.server.remove(pod)
		}
		return
	case 3, 4, 5:
		if pod == nil {
			r.born++
			upper := ""
			if r.IntN(2) == 0 {
				upper = fmt.Sprint("u", r.born)
			}
			pod = lowerPod(name, fmt.Sprint(r.born), upper, "")
		}
		if r.IntN(3) > 0 && pod.Spec.NodeName == "" {
			pod.Spec.NodeName = node
		}
	case 6:
		if pod == nil {
			return
		}
		if snapshot.Finished(pod) {
			return
		}
		phases := []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodUnknown, corev1.PodFailed, corev1.PodSucceeded}
		pod.Status.Phase = phases[r.IntN(len(phases))]
	default:
		if pod == nil {
			return
		}
		pod.Spec.Containers[0].Resources.Requests["cpu"] = *resource.NewQuantity(int64(r.IntN(4)), resource.DecimalSI) // Resized.
	}
	r.pods[name] = pod
	r.server.set(pod)
}

// truth is what a snapshot should say.
func (r *rush) truth() (where map[string][]string, unfinished int) {
	where = map[string][]string{}
	for node := range r.nodes {
		where[node] = []string{}
	}
	for _, pod := range r.pods {
		finished := snapshot.Finished(pod)
		if !finished {
			unfinished++
		}
		if _, there := where[pod.Spec.NodeName]; there && !finished {
			where[pod.Spec.NodeName] = append(where[pod.Spec.NodeName], string(pod.UID))
		}
		if upper := pod.Annotations[keys.UpperUID]; upper != "" {
			where["own "+upper] = []string{pod.Spec.NodeName}
		}
	}
	for _, names := range where {
		slices.Sort(names)
	}
	return where, unfinished
}

// differs says what is wrong with a snapshot: where pods are, and what the virtual node would show.
func (r *rush) differs(s *snapshot.Snapshot) string {
	where, unfinished := r.truth()
	diff := differs(where, unfinished)(s)
	var charged snapshot.Resources
	for _, own := range s.Own {
		if !own.Finished {
			charged = charged.Plus(own.Requests)
		}
	}
	for _, part := range parts() {
		capacity, free, largest := r.sum(part)
		reserve := max(0, min(free, part.Reserve.Amount.MilliCPU))
		want := charged.MilliCPU + free - reserve + largest
		selected := s.Select(part)
		if got := selected.Capacity().MilliCPU; got != capacity {
			diff += fmt.Sprintf("capacity is %d, want %d\n", got, capacity)
		}
		if got := selected.Advertised(charged).MilliCPU; got != want {
			diff += fmt.Sprintf("advertised is %d, want %d\n", got, want)
		}
	}
	return diff + refusedAbove(s, charged)
}

// parts are what virtual nodes may stand for.
func parts() []snapshot.Part {
	young := labels.SelectorFromSet(labels.Set{"age": "0"})
	reserve := snapshot.Reserve{Amount: snapshot.Resources{MilliCPU: 6000}}
	return []snapshot.Part{{}, {Nodes: young}, {Reserve: reserve}, {Nodes: young, Reserve: reserve}}
}

// sum is a fresh sum over the usable nodes of a part, in millicores: what they can give, what is free, what the largest can
// give.
func (r *rush) sum(part snapshot.Part) (capacity, free, largest int64) {
	for name, node := range r.nodes {
		if part.Nodes != nil && !part.Nodes.Matches(labels.Set(node.Labels)) {
			continue
		}
		allocatable := node.Status.Allocatable.Cpu().MilliValue()
		largest = max(largest, allocatable)
		if ready := node.Status.Conditions[0].Status == corev1.ConditionTrue; !ready || node.Spec.Unschedulable {
			continue
		}
		left := allocatable
		for _, pod := range r.pods {
			if pod.Spec.NodeName == name && !snapshot.Finished(pod) {
				left -= pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
			}
		}
		capacity, free = capacity+allocatable, free+max(0, left)
	}
	return capacity, free, largest
}

// refusedAbove names a pod that the extender takes and the upper scheduler's own resource filter does not.
func refusedAbove(s *snapshot.Snapshot, charged snapshot.Resources) string {
	var faults strings.Builder
	for _, part := range parts() {
		pool := snapshot.NewPool()
		pool.Publish(time.Time{}, s)
		advertised := s.Select(part).Advertised(charged)
		for cpus := range int64(18) {
			pod := &corev1.Pod{}
			pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": *resource.NewQuantity(cpus, resource.DecimalSI)},
			}}}
			if part.Nodes != nil {
				pod.Spec.NodeSelector = map[string]string{"age": "0"}
			}
			asked := snapshot.NewPod(pod)
			asked.Part = part
			if pool.JudgeFor(snapshot.Owner{}, "a", asked, "new").Fits && !advertised.Minus(charged).Fits(asked.Requests) {
				fmt.Fprintf(&faults, "a pod of %d CPUs fits, and %v are advertised, %v of them charged\n", cpus, advertised.Quantities(), charged.Quantities())
			}
		}
	}
	return faults.String()
}

// The example of rule 3: half of the nodes are cordoned and full of our pods, the other half is empty and must be seen.
func TestRoomBesideCordonedNodes(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	for i := range 10 {
		node := lowerNode(fmt.Sprint("n", i))
		node.Status.Allocatable["cpu"] = resource.MustParse("16")
		node.Spec.Unschedulable = i < 5
		s.set(node)
		for p := range 16 {
			if i < 5 {
				id := fmt.Sprint(i, "-", p)
				s.set(lowerPod("p"+id, id, "u"+id, node.Name))
			}
		}
	}
	follow(t, s).until(func(seen *snapshot.Snapshot) string {
		var charged snapshot.Resources
		for _, own := range seen.Own {
			charged = charged.Plus(own.Requests)
		}
		if shown := seen.Advertised(charged).Minus(charged).MilliCPU; len(seen.Nodes) < 10 || charged.MilliCPU != 80_000 || shown < 80_000 {
			return fmt.Sprintf("%d nodes, %d millicores are ours, %d show as free", len(seen.Nodes), charged.MilliCPU, shown)
		}
		return ""
	})
}
