package services

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	endpointsliceutil "k8s.io/endpointslice/util"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Pods is a cache of lower pods with the index cache.NamespaceIndex.
type Pods interface {
	ByIndex(index, value string) ([]any, error)
	HasSynced() bool
}

// Member is a virtual node that takes part.
type Member struct {
	Name string
	// Flat: its pods are reached from all other members that are flat, by their addresses.
	Flat bool
	// LowerName is the name below of an upper namespace.
	LowerName func(upper string) string
	// Below are the lower pods that came through the virtual node.
	Below Pods
	// Cluster is the UID of the lower cluster, "" before it is known; Reachable reports whether it answers, so that what its cache
	// says is news.
	Cluster   func() types.UID
	Reachable func() bool
}

// keeper is who is told of Services to look at.
type keeper interface {
	look(key string)
	lookAtAll()
}

// Hub knows all virtual nodes of this process that take part: a change in one cluster is written in all others. Its methods are safe
// for concurrent use.
type Hub struct {
	mu       sync.Mutex
	members  map[*Member]keeper
	up       map[*Member]membership
	watchers map[*Member]func()
}

// membership is what all others act on.
type membership struct {
	cluster   types.UID
	reachable bool
}

// NewHub returns one without members.
func NewHub() *Hub {
	return &Hub{members: map[*Member]keeper{}, up: map[*Member]membership{}, watchers: map[*Member]func(){}}
}

// Watch has a function called, for a member, whenever pods of a flat cluster change, until it is called with nil.
func (h *Hub) Watch(m *Member, changed func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.watchers, m); changed != nil {
		h.watchers[m] = changed
	}
}

func (h *Hub) tell() {
	h.mu.Lock()
	watchers := slices.Collect(maps.Values(h.watchers))
	h.mu.Unlock()
	for _, changed := range watchers {
		changed()
	}
}

// Remote are the addresses of ready pods of upper namespaces in flat clusters other than that one, as far as labels match. Pods in the
// network of their node are not among them: the address is the node's.
func (h *Hub) Remote(cluster types.UID, namespaces []string, selector labels.Selector) (addresses []netip.Addr) {
	for _, m := range h.flat() {
		if !m.Reachable() || m.Cluster() == cluster {
			continue
		}
		for _, namespace := range namespaces {
			objects, _ := m.Below.ByIndex(cache.NamespaceIndex, m.LowerName(namespace)) // The index exists.
			for _, object := range objects {
				pod := object.(*corev1.Pod)
				if pod.Spec.HostNetwork || !endpointsliceutil.IsPodReady(pod) || !endpointsliceutil.ShouldPodBeInEndpoints(pod, false) ||
					!selector.Matches(labels.Set(pod.Labels)) {
					continue
				}
				for _, ip := range pod.Status.PodIPs {
					if address, err := netip.ParseAddr(ip.IP); err == nil {
						addresses = append(addresses, address.Unmap())
					}
				}
			}
		}
	}
	return addresses
}

// join adds a member, leave takes it away. All others look at everything anew.
func (h *Hub) join(m *Member, k keeper) {
	h.mu.Lock()
	h.members[m] = k
	h.mu.Unlock()
	h.lookAtAll()
}

func (h *Hub) leave(m *Member) {
	h.mu.Lock()
	delete(h.members, m)
	delete(h.up, m)
	h.mu.Unlock()
	h.lookAtAll()
}

// Look has a Service looked at in all clusters.
func (h *Hub) Look(key string) {
	for _, k := range h.keepers() {
		k.look(key)
	}
}

func (h *Hub) lookAtAll() {
	for _, k := range h.keepers() {
		k.lookAtAll()
	}
}

func (h *Hub) keepers() (all []keeper) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.members {
		all = append(all, k)
	}
	return all
}

// memberInterval is how often it is looked whether a member's cluster answers.
const memberInterval = 500 * time.Millisecond

// Run has everything looked at when a cluster falls silent or is back, until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	ticker := time.NewTicker(memberInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if h.changed() {
			h.lookAtAll()
			h.tell()
		}
	}
}

func (h *Hub) changed() (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		if now := (membership{m.Cluster(), m.Reachable()}); now != h.up[m] {
			h.up[m], changed = now, true
		}
	}
	return changed
}

// virtual reports whether a node of the upper cluster is a virtual one of this process.
func (h *Hub) virtual(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		if m.Name == node {
			return true
		}
	}
	return false
}

// first reports whether a member is the one that writes slices into its cluster: several may stand for one.
func (h *Hub) first(of *Member) bool {
	cluster := of.Cluster()
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		if m != of && m.Flat && m.Name < of.Name && m.Cluster() == cluster {
			return false
		}
	}
	return true
}

// flat are the members whose pods are reached from each other, in order of their names.
func (h *Hub) flat() (all []*Member) {
	h.mu.Lock()
	for m := range h.members {
		if m.Flat {
			all = append(all, m)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b *Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// endpoints are the pods that a Service of an upper namespace selects, wherever they are, as if they were in a namespace of the
// cluster that asks. Nodes of other clusters mean nothing there.
func (h *Hub) endpoints(service *corev1.Service, cluster types.UID, namespace string) (pods []*corev1.Pod) {
	selector := labels.ValidatedSetSelector(service.Spec.Selector)
	for _, m := range h.flat() {
		if !m.Reachable() {
			continue
		}
		objects, _ := m.Below.ByIndex(cache.NamespaceIndex, m.LowerName(service.Namespace)) // The index exists.
		for _, object := range objects {
			pod := object.(*corev1.Pod)
			if !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			here := *pod
			here.Namespace = namespace
			if m.Cluster() != cluster {
				here.Spec.NodeName = ""
			}
			pods = append(pods, &here)
		}
	}
	return pods
}

// handler tells of the Services that a change of a lower pod concerns.
func (h *Hub) handler(upper *Upper) cache.ResourceEventHandler {
	changed := func(before, now any) {
		projection := endpointsliceutil.GetPodUpdateProjectionKey(before, now)
		if projection == nil {
			return
		}
		pod, ok := now.(*corev1.Pod)
		if !ok {
			pod = before.(*corev1.Pod)
		}
		projection.Namespace = pod.Annotations[keys.UpperNamespace]
		found, _ := endpointsliceutil.GetServicesToUpdate(upper.lister, projection) // A cache never fails.
		for key := range found {
			h.Look(key)
		}
		h.tell()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { changed(nil, object) },
		UpdateFunc: changed,
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok && pod != nil {
				changed(pod, nil)
			}
		},
	}
}
