package snapshot

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// What a cluster has refused for its room, its nodes or the pods in it, it refuses still where no stir says that it may take it.
func TestStirs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 9))
			data := make([]byte, 3000)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			p := newPlay(t, data, 1<<(1+seed%6))
			var pods []*Pod
			for range 24 {
				pods = append(pods, NewPod(p.object(&upperTruth{uid: "q", args: p.requests()})))
			}
			marks := Marks{}
			refused := map[string]map[*Pod]Verdict{}
			for !p.tape.over() {
				for range 1 + p.tape.choice(3) {
					p.step()
				}
				stirs := map[string]Stir{}
				for _, stir := range p.pool.Stirs(marks) {
					stirs[stir.Cluster] = stir
				}
				for _, cluster := range p.pool.Clusters() {
					now := map[*Pod]Verdict{}
					for _, pod := range pods {
						v := p.pool.JudgeFor(Owner{}, cluster, pod, "")
						before, known := refused[cluster][pod]
						stir, stirred := stirs[cluster]
						may := stirred && stir.MayTake(pod) || pod.Sociable() && len(stirs) > 0
						if v.Fits && known && !may {
							t.Fatalf("%s takes %v on %s, which it refused: %s, and nothing says so\n\nafter\n%s", cluster,
								pod.Requests.Quantities(), v.Node, before.Reason, strings.Join(p.script[max(0, len(p.script)-60):], "\n"))
						}
						if !v.Fits && v.Reason != keys.Avoided && v.Reason != keys.NameConflict {
							now[pod] = v
						}
					}
					refused[cluster] = now
				}
			}
		})
	}
}

// A node that goes may have been in the way of spread, or counted in a reserve; so may a cluster that leaves.
func TestWhatGoesIsTold(t *testing.T) {
	t.Parallel()
	pool, marks := NewPool(), Marks{}
	whole := benchCluster(2)
	stays, goes := whole.Nodes[0].With(nil), whole.Nodes[1].With(nil)
	pool.Publish(time.Time{}, New(Content{Cluster: "a", Nodes: []*Node{stays, goes}, Surroundings: whole.around}))
	pool.Stirs(marks)
	pool.Publish(time.Time{}, New(Content{Cluster: "a", Nodes: []*Node{stays}, Surroundings: whole.around}))
	spread := benchPod("7", "1")
	spread.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: spread.Labels},
	}}
	if stirs := pool.Stirs(marks); len(stirs) != 1 || !stirs[0].MayTake(NewPod(spread)) {
		t.Errorf("after a node has gone: %v", stirs)
	}
	pool.Forget("a")
	if stirs := pool.Stirs(marks); len(stirs) != 1 || stirs[0].Cluster != "a" {
		t.Errorf("after the cluster has left: %v", stirs)
	}
	pool.Publish(time.Time{}, benchCluster(1))
	if stirs := pool.Stirs(marks); len(stirs) != 1 {
		t.Errorf("after it has come back: %v", stirs)
	}
}
