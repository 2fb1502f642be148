package snapshot

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// TestRows lets nodes and pods come, change and go at random, tells one pool what has changed and another one all there is, and
// compares what they say and show.
func TestRows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := &rowsGame{Rand: rand.New(rand.NewPCG(seed, 5)), rows: NewRows("a"), nodes: map[string]*corev1.Node{}, pods: map[types.UID]*LowerPod{}}
			by, whole := NewPool(), NewPool()
			now := time.Unix(1000, 0)
			for range 60 {
				for range r.IntN(8) {
					r.step()
				}
				around := Surroundings{Namespaces: Namespaces{"default": nil}}
				r.rows.SetAround(around)
				by.Apply(now, r.rows.Fetch())
				whole.Publish(now, r.whole(around))
				if diff := cmp.Diff(r.shown(whole), r.shown(by)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

type rowsGame struct {
	*rand.Rand
	rows  *Rows
	nodes map[string]*corev1.Node
	pods  map[types.UID]*LowerPod
	born  int
}

func (r *rowsGame) step() {
	name := fmt.Sprint("n", r.IntN(6))
	switch r.IntN(8) {
	case 0:
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": fmt.Sprint(r.IntN(2))}}}
		node.Spec.Unschedulable = r.IntN(5) == 0
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		node.Status.Allocatable = corev1.ResourceList{"cpu": *resource.NewQuantity(r.Int64N(3)*8, resource.DecimalSI), "pods": resource.MustParse("110")}
		if r.IntN(3) == 0 {
			node.Status.Allocatable["example.com/gpu"] = resource.MustParse("2")
		}
		r.nodes[name] = node
		r.rows.SetNode(node)
	case 1:
		delete(r.nodes, name)
		r.rows.RemoveNode(name)
	case 2:
		for uid := range r.pods {
			delete(r.pods, uid)
			r.rows.RemovePod(uid)
			return
		}
	case 3: // Something of it changes, or nothing that counts.
		for uid, pod := range r.pods {
			if pod.Node == "" || r.IntN(2) == 0 {
				r.pods[uid], _ = r.rows.SetPod(r.lower(string(uid), name, pod))
				return
			}
		}
	default:
		r.born++
		uid := fmt.Sprint("p", r.born)
		where := name
		if r.IntN(4) == 0 {
			where = ""
		}
		r.pods[types.UID(uid)], _ = r.rows.SetPod(r.lower(uid, where, nil))
	}
}

// lower is a pod, or a later state of one.
func (r *rowsGame) lower(uid, node string, before *LowerPod) *LowerPod {
	pod := benchPod(fmt.Sprint(r.IntN(2)), "1")
	pod.Name, pod.UID, pod.Spec.NodeName = uid, types.UID(uid), node
	pod.CreationTimestamp = metav1.Unix(int64(len(uid)), 0)
	if before != nil && before.Node != "" {
		pod.Spec.NodeName = before.Node
	}
	switch r.IntN(6) {
	case 0:
		pod.Status.Phase = corev1.PodSucceeded
	case 1:
		keepApart(pod)
	case 2:
		pod.Labels[keys.Upper] = "us"
		pod.Annotations = map[string]string{keys.UpperUID: "upper-" + uid}
	}
	return NewLowerPod(pod, "us")
}

func (r *rowsGame) whole(around Surroundings) *Snapshot {
	content := Content{Cluster: "a", Own: map[types.UID]*LowerPod{}, Surroundings: around}
	byNode := map[string][]*LowerPod{}
	for _, pod := range r.rows.waits() { // In the order that decides who waits first.
		content.Add(pod)
	}
	for _, pod := range r.pods {
		if pod.Node != "" || pod.Finished {
			content.Add(pod)
			byNode[pod.Node] = append(byNode[pod.Node], pod)
		}
	}
	for name, node := range r.nodes {
		content.Nodes = append(content.Nodes, NewNode(node, byNode[name]))
	}
	return New(content)
}

// shown is what a pool shows and says.
func (r *rowsGame) shown(p *Pool) map[string]string {
	shown := map[string]string{}
	s := p.Snapshot("a")
	for _, node := range s.Nodes {
		shown[node.Name()] = fmt.Sprint(node.Free().Quantities(), node.Usable(), len(node.Pods))
	}
	for uid, own := range s.Own {
		shown["own "+string(uid)] = fmt.Sprint(own.Node, own.Finished)
	}
	shown["pods"] = fmt.Sprint(s.Pods)
	for i, cpu := range []string{"1", "5", "16"} {
		pod := benchPod(fmt.Sprint(i%2), cpu)
		pod.Name = fmt.Sprint("p", 1+i)
		if i == 1 {
			keepApart(pod)
		}
		v := p.Judge("a", NewPod(pod), "")
		shown["judge "+cpu] = fmt.Sprint(v.Fits, v.Node, v.Reason, v.Short.Quantities(), p.Conflicts("a", NewPod(pod), "x"))
	}
	return shown
}
