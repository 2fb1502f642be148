package node

import (
	"math"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/tombstone"
)

// Charges is what the upper scheduler charges a node for: the requests of the unfinished pods bound to it, kept as they come and go, for
// there may be thousands and the sum is asked for with every change. The zero value is ready.
type Charges struct {
	mu    sync.Mutex
	known map[types.UID]snapshot.Resources
	sum   snapshot.Resources
}

// Handler keeps the sum by the events of a watch of the node's pods; changed is called after each.
func (c *Charges) Handler(changed func()) cache.ResourceEventHandler {
	take := func(pod *corev1.Pod) {
		c.take(pod)
		changed()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { take(object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { take(object.(*corev1.Pod)) },
		DeleteFunc: tombstone.Handler(func(pod *corev1.Pod) {
			c.drop(pod.UID)
			changed()
		}).OnDelete,
	}
}

// Sum is that of the requests. The resource that marks Tessera's pods is taken out: no node may list it.
func (c *Charges) Sum() snapshot.Resources {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum
}

func (c *Charges) take(pod *corev1.Pod) {
	if snapshot.Finished(pod) {
		c.drop(pod.UID)
		return
	}
	requests := snapshot.Requests(pod)
	delete(requests.Scalars, keys.PodResource)
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.known[pod.UID]; known {
		if reflect.DeepEqual(before, requests) {
			return // As with most changes.
		}
		c.without(pod.UID)
	}
	if c.known == nil {
		c.known = map[types.UID]snapshot.Resources{}
	}
	c.known[pod.UID] = requests
	c.sum = c.sum.Plus(requests)
}

func (c *Charges) drop(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.without(pod)
}

// without takes a pod out. The caller holds the lock. Sums stop at the largest number, and one that has been there is counted anew.
func (c *Charges) without(pod types.UID) {
	requests, known := c.known[pod]
	if !known {
		return
	}
	delete(c.known, pod)
	if c.full() || len(requests.Scalars) > 0 { // No name stays that nobody asks for any more.
		c.sum = snapshot.Resources{}
		for _, one := range c.known {
			c.sum = c.sum.Plus(one)
		}
		return
	}
	c.sum = c.sum.Minus(requests)
}

func (c *Charges) full() bool {
	return slices.Contains([]int64{c.sum.MilliCPU, c.sum.Memory, c.sum.EphemeralStorage}, math.MaxInt64)
}
