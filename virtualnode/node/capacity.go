package node

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// capacity and advertised are the plain sum and what may be asked for (see snapshot.Advertised). The devices that only
// device classes give are in both: the upper scheduler's own filter refuses what a node does not list. A Node of which more
// can be allocated than it has is taken for broken by some who look at it, so the sum is never said to be less.
func (f *Facts) capacity() snapshot.Resources {
	return f.Snapshot.Capacity().Plus(f.devices()).Max(f.advertised())
}

func (f *Facts) advertised() snapshot.Resources {
	return f.Snapshot.Advertised(f.Own).Plus(f.devices())
}

func (f *Facts) devices() snapshot.Resources { return snapshot.Resources{Scalars: f.Devices} }

// features are those that any usable node declares: the upper scheduler refuses a pod that needs one which the virtual
// node lacks, and the extender decides exactly. The API server wants them sorted.
func (f *Facts) features() []string {
	if f.Snapshot == nil {
		return nil
	}
	all := map[string]bool{}
	for _, node := range f.Snapshot.Nodes {
		if node.Usable() {
			for _, feature := range node.Object.Status.DeclaredFeatures {
				all[feature] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Charges sums up what the upper scheduler charges a node for. It remembers what each pod asks for, as long as the pod stays the
// same: that is worth more than the sum. The zero value is ready.
type Charges struct {
	mu    sync.Mutex
	known map[types.UID]charge
}

// charge is what one version of a pod asks for.
type charge struct {
	pod      *corev1.Pod
	requests snapshot.Resources
}

// Sum is that of the requests of the unfinished ones among the pods bound to the node. The resource that marks Tessera's pods is
// taken out: no node may list it.
func (c *Charges) Sum(pods []*corev1.Pod) snapshot.Resources {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[types.UID]charge, len(pods))
	var sum snapshot.Resources
	for _, pod := range pods {
		if snapshot.Finished(pod) {
			continue
		}
		one, ok := c.known[pod.UID]
		if !ok || one.pod != pod {
			one = charge{pod: pod, requests: snapshot.Requests(pod)}
			delete(one.requests.Scalars, keys.PodResource)
		}
		known[pod.UID] = one
		sum = sum.Plus(one.requests)
	}
	c.known = known
	return sum
}
