package node

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// capacity and advertised are the plain sum and what may be asked for (see snapshot.Advertised). The devices that only
// device classes give are in both: the upper scheduler's own filter refuses what a node does not list.
func (f *Facts) capacity() snapshot.Resources { return f.Snapshot.Capacity().Plus(f.devices()) }

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

// Charged sums up what the upper scheduler charges a node for: the requests of the unfinished pods bound to it. The
// resource that marks Tessera's pods is taken out: no node may list it.
func Charged(pods []*corev1.Pod) snapshot.Resources {
	var sum snapshot.Resources
	for _, pod := range pods {
		if !snapshot.Finished(pod) {
			sum = sum.Plus(snapshot.Requests(pod))
		}
	}
	if _, ok := sum.Scalars[keys.PodResource]; ok {
		sum.Scalars = maps.Clone(sum.Scalars)
		delete(sum.Scalars, keys.PodResource)
	}
	return sum
}
