package snapshot

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestReservationsCountOnce plays at random with reservations and the pods that use them. After every step the room of
// each node is what is free less what is held there, and a reservation stands for itself or behind one hold.
func TestReservationsCountOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			g := newGame(seed)
			for step := range 300 {
				what := g.play()
				if fault := g.fault(); fault != "" {
					t.Fatalf("step %d, %s: %s", step, what, fault)
				}
			}
		})
	}
}

// game is a pool with clusters a and b of two nodes, and pods and reservations of two owners.
type game struct {
	*rand.Rand
	pool *Pool
	now  time.Time
	made int // reservations so far
}

func newGame(seed uint64) *game {
	g := &game{Rand: rand.New(rand.NewPCG(seed, 1)), pool: NewPool(), now: time.Unix(1000, 0)}
	g.publish("a")
	g.publish("b")
	return g
}

// publish shows a cluster with one of its nodes cordoned now and then.
func (g *game) publish(name string) {
	var nodes []*corev1.Node
	for _, node := range []string{"n1", "n2"} {
		if g.IntN(5) == 0 {
			continue
		}
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: corev1.NodeSpec{Unschedulable: g.IntN(5) == 0}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("8"), "pods": resource.MustParse("110")}
		nodes = append(nodes, n)
	}
	g.pool.Publish(g.now, Of(name, nodes, nil, nil))
}

// pod is one of the owner's, of 1 to 4 CPUs.
func (g *game) pod(owner Owner) *Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: owner.Namespace}}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": *resource.NewQuantity(g.Int64N(4)+1, resource.DecimalSI)},
	}}}
	return NewPod(pod)
}

func (g *game) play() (what string) {
	cluster := []string{"a", "b"}[g.IntN(2)]
	owner := Owner{Kind: "Job", Namespace: "ns", Name: fmt.Sprint("o", g.IntN(2))}
	info := Info{Namespace: "ns", Owner: owner}
	uid := types.UID(fmt.Sprint(owner.Name, "-", g.IntN(4)))
	pod := g.pod(owner)
	switch g.IntN(10) {
	case 0, 1:
		if v := g.pool.Judge(cluster, pod, ""); v.Fits {
			g.made++
			g.pool.Reserve(g.now, types.UID(fmt.Sprint("r", g.made)), info, pod, v, g.now.Add(time.Minute))
		}
		return "reserve in " + cluster
	case 2, 3, 4:
		if v := g.pool.JudgeFor(owner, cluster, pod, uid); v.Fits {
			g.pool.Offer(g.now, uid, info, pod, v)
		}
		return fmt.Sprint("offer ", uid, " in ", cluster)
	case 5:
		g.pool.Observe(g.now, UpperPod{UID: uid, Info: info, Cluster: cluster, Pod: pod})
		return fmt.Sprint("bind ", uid, " to ", cluster)
	case 6:
		g.pool.Observe(g.now, UpperPod{UID: uid, Info: info, Gone: true})
		return fmt.Sprint(uid, " goes")
	case 7:
		g.now = g.now.Add(20 * time.Second)
		offers, reservations := g.pool.Expire(g.now)
		return fmt.Sprintf("the clock ends %d offers and %d reservations", offers, reservations)
	case 8:
		for r := range g.pool.reserved {
			if g.IntN(3) == 0 {
				g.pool.Withdraw(r)
			}
		}
		return "withdraw some"
	default:
		if g.IntN(4) == 0 {
			g.pool.Forget(cluster)
		}
		g.publish(cluster)
		return "publish " + cluster
	}
}

// fault names what is wrong with the pool, "" if nothing is.
func (g *game) fault() string {
	p := g.pool
	for _, name := range p.Clusters() {
		c := p.cells[name]
		for _, i := range c.inOrder() {
			node := c.nodes[i]
			want := node.Free().Minus(p.Held(name, node.Name()))
			if got := c.room.row(i); !got.equal(want) {
				return fmt.Sprintf("%s/%s has room for %v, free less held is %v", name, node.Name(), got.Quantities(), want.Quantities())
			}
		}
	}
	seen := map[types.UID]int{}
	for uid, hold := range p.holds {
		if c := p.cells[hold.Cluster]; c != nil && c.holds[uid] != hold {
			return fmt.Sprintf("the hold %s is not among those of its cluster", uid)
		}
		if (hold.State == Reserved) != (p.reserved[uid] == hold) {
			return fmt.Sprintf("the hold %s is %s, among the reservations: %t", uid, hold.State, p.reserved[uid] == hold)
		}
		if hold.State == Reserved {
			seen[uid]++
		}
		if hold.used != nil {
			seen[hold.used.UID]++
		}
	}
	for uid, times := range seen {
		if times > 1 {
			return fmt.Sprintf("the reservation %s counts %d times", uid, times)
		}
	}
	return ""
}
