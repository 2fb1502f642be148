package virtualnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/virtualnode/node"
)

// overlapInterval is how often the addresses of the flat clusters are compared.
const overlapInterval = 3 * time.Second

// upperName is what the upper cluster is called in the condition.
const upperName = "the upper cluster"

// watchOverlaps compares the addresses of the clusters whose network is flat until ctx ends, and has their Nodes say what
// it finds. Of the upper cluster it knows the pod ranges of its own nodes, which are watched once a network is flat.
func (s *server) watchOverlaps(ctx context.Context) error {
	above := coreinformers.NewFilteredNodeInformer(s.upper, 0, nil, func(o *metav1.ListOptions) { o.LabelSelector = "!" + keys.Cluster })
	if err := above.SetTransform(onlyRanges); err != nil {
		return fmt.Errorf("watching upper nodes: %w", err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	ticker := time.NewTicker(overlapInterval)
	defer ticker.Stop()
	for watching := false; ; {
		flat := s.flat()
		if len(flat) > 0 && !watching {
			watching = true
			group.Go(func() { above.RunWithContext(ctx) })
		}
		compareAddresses(flat, typed[*corev1.Node](above.GetStore().List()))
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// onlyRanges keeps what is compared of an upper node.
func onlyRanges(object any) (any, error) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	meta := metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion}
	return &corev1.Node{ObjectMeta: meta, Spec: corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs}}, nil
}

// flat are the virtual nodes whose network is flat.
func (s *server) flat() []*virtualNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	var flat []*virtualNode
	for _, v := range s.nodes {
		if v.config.Network == NetworkFlat {
			flat = append(flat, v)
		}
	}
	return flat
}

func compareAddresses(flat []*virtualNode, above []*corev1.Node) {
	clusters := []node.Addresses{{Cluster: upperName, Ranges: node.Ranges(above)}}
	for _, v := range flat {
		clusters = append(clusters, v.addresses())
	}
	overlaps := node.Overlaps(clusters)
	for _, v := range flat {
		now := overlaps[v.name]
		if before := v.overlap.Swap(&now); before == nil || *before != now {
			v.keeper.Touch()
		}
	}
}

// addresses are those of the lower nodes that take part and of the pods that came through the virtual node.
func (v *virtualNode) addresses() node.Addresses {
	var taking []*corev1.Node
	for _, n := range v.watch.Nodes() {
		if v.taking.Nodes == nil || v.taking.Nodes.Matches(labels.Set(n.Labels)) {
			taking = append(taking, n)
		}
	}
	return node.Addresses{Cluster: v.name, Ranges: node.Ranges(taking), Pods: node.OwnAddresses(typed[*corev1.Pod](v.below.List()))}
}

// typed are the objects that a cache holds.
func typed[T any](objects []any) []T {
	all := make([]T, 0, len(objects))
	for _, object := range objects {
		all = append(all, object.(T))
	}
	return all
}
