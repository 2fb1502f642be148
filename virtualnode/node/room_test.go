package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// The number is written when kube-scheduler's own filter is about to refuse what there is room for, and when it has been wrong for
// some time. Pods of others that come and go below cost nothing.
func TestRoomIsWrittenRarely(t *testing.T) {
	t.Parallel()
	cpus := func(n int64) []*snapshot.LowerPod {
		return []*snapshot.LowerPod{{Requests: snapshot.Resources{MilliCPU: n * 1000}}}
	}
	bigger := func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("20") }
	gpu := func(n *corev1.Node) { n.Status.Allocatable["example.com/gpu"] = resource.MustParse("1") }
	facts := func(own int64, nodes ...*snapshot.Node) Facts {
		return Facts{Name: "v", Health: healthy(), Snapshot: picture(nodes...), Own: snapshot.Resources{MilliCPU: own * 1000}}
	}
	four := func(used int64) []*snapshot.Node { // of 16 CPUs each, the first one with others on it
		return []*snapshot.Node{
			snapshot.NewNode(lowerNode("a"), cpus(used)), snapshot.NewNode(lowerNode("b"), nil),
			snapshot.NewNode(lowerNode("c"), nil), snapshot.NewNode(lowerNode("d"), nil),
		}
	}
	full := func(own int64, free int64) Facts { return facts(own, snapshot.NewNode(lowerNode("a"), cpus(16-free))) }
	for name, c := range map[string]struct {
		before, now Facts
		after       time.Duration // since the number is wrong
		due         bool
	}{
		"a pod of others comes":                 {facts(0, four(0)...), facts(0, four(2)...), time.Hour, false},
		"a pod of others goes":                  {facts(0, four(2)...), facts(0, four(0)...), time.Hour, false},
		"many come":                             {facts(0, four(0)...), facts(0, four(16)...), time.Second, false},
		"many came a while ago":                 {facts(0, four(0)...), facts(0, four(16)...), wrongFor, true},
		"many go, there was enough":             {facts(0, four(16)...), facts(0, four(0)...), time.Second, false},
		"many went a while ago":                 {facts(0, four(16)...), facts(0, four(0)...), wrongFor, true},
		"room in a full cluster":                {full(0, 0), full(0, 10), 0, true},
		"a little room in a full cluster":       {full(0, 0), full(0, 1), 0, true},
		"less room in a full cluster":           {full(0, 10), full(0, 0), time.Second, false},
		"own pods come, foreign ones had gone":  {full(0, 0), full(20, 8), 0, true},
		"a larger node":                         {facts(0, four(0)...), facts(0, append(four(0), snapshot.NewNode(lowerNode("e", bigger), nil))...), 0, true},
		"a resource that there was not":         {facts(0, four(0)...), facts(0, append(four(0), snapshot.NewNode(lowerNode("e", gpu), nil))...), 0, true},
		"one more node of many":                 {facts(0, append(append(four(0), four(0)...), append(four(0), append(four(0), four(0)...)...)...)...), facts(0, append(append(four(0), four(0)...), append(four(0), append(four(0), append(four(0), four(0)[0])...)...)...)...), time.Hour, false},
		"own churn: as much is free as charged": {facts(0, four(0)...), facts(4, four(4)...), time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := room{}
			last := c.before.node(now)
			r.wrote(c.before)
			if due, again := r.due(c.before, last, now); due || again > 0 {
				t.Fatalf("what was just written is due: again %s", again)
			}
			if c.after > 0 {
				if due, _ := r.due(c.now, last, now); due {
					t.Error("it is due at once")
				}
			}
			due, again := r.due(c.now, last, now.Add(c.after))
			if due != c.due || !due && again < 0 {
				t.Errorf("due %v, again %s", due, again)
			}
		})
	}
}
