package play

import (
	"math/rand/v2"
	"time"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/api"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Size says what a cluster begins with.
type Size struct {
	Nodes, Pods int
	// Pending is the share of the pods that no node takes.
	Pending float64
}

// history is over how long before the start pods and nodes were created.
const history = 30 * 24 * time.Hour

// Fill gives a cluster its nodes, pods and namespaces. The same seed, index and size make the same cluster, but for its times,
// which are before now.
func Fill(cluster *api.Cluster, maker *objects.Cluster, size Size, now time.Time) *Site {
	s := &Site{
		cluster: cluster, maker: maker, random: rand.New(rand.NewPCG(maker.Seed, uint64(maker.Index)+2)),
		pods: cluster.Core("pods"), nodes: cluster.Core("nodes"), spaces: cluster.Core("namespaces"), quotas: cluster.Core("resourcequotas"),
		byName: map[string]int{}, charged: map[string]charge{}, waiting: map[string]bool{},
	}
	s.fillNamespaces()
	born := func() uint32 { return uint32(now.Unix() - 60 - s.random.Int64N(int64(history/time.Second))) }
	nodes := make([]rows.Row, size.Nodes)
	for i := range nodes {
		nodes[i] = rows.Row{Serial: uint32(i), Born: born(), Since: uint32(now.Unix()), Node: -1, Shape: uint16(i % maker.NodeShapes())}
		s.room = append(s.room, room{has: maker.Has(nodes[i].Shape), free: maker.Has(nodes[i].Shape)})
	}
	s.nodes.Fill(nodes)
	s.plain = size.Nodes
	s.serial = uint32(size.Pods)
	pods := make([]rows.Row, size.Pods)
	fitting, oversized := maker.PodShapes()
	for i := range pods {
		r := rows.Row{Serial: uint32(i), Born: born(), Node: -1, State: objects.PodUnschedulable, Shape: uint16(s.random.IntN(fitting))}
		r.Since = r.Born + 3
		if s.random.Float64() < size.Pending {
			r.Shape = uint16(fitting + s.random.IntN(oversized))
		} else if node := s.choose(maker.Asks(r.Shape)); node >= 0 {
			s.take(node, maker.Asks(r.Shape))
			r.Node, r.State = int32(node), objects.PodRunning
		}
		pods[i] = r
	}
	s.pods.Fill(pods)
	s.start()
	return s
}

// fillNamespaces makes those of every cluster and of the applications.
func (s *Site) fillNamespaces() {
	for _, name := range append([]string{"default", "kube-node-lease", "kube-public", "kube-system"}, s.maker.Namespaces...) {
		namespace := admit.NewNamespace(name)
		namespace.UID = s.maker.NamespaceUID(name)
		if s.spaces.Add(namespace) == nil {
			s.cluster.Furnish(name)
		}
	}
}

// start puts the cursors behind what there is.
func (s *Site) start() {
	_, s.podsSeen = s.pods.Begin("")
	_, s.nodesSeen = s.nodes.Begin("")
	_, s.spacesSeen = s.spaces.Begin("")
}
