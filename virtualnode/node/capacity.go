package node

import (
	"maps"
	"slices"

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
