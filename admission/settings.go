package admission

import (
	"time"

	"github.com/tessera-k8s/tessera/admission/mutate"
)

// Given is what admission gives to pods that do not say it themselves.
type Given struct {
	// Policy is one of only, prefer, overflow.
	Policy string `json:"policy,omitempty"`
	// ClusterOrder names clusters, of which the first that has room is taken.
	ClusterOrder []string `json:"clusterOrder,omitempty"`
	// Architecture is that of lower nodes for pods that name none; "" is any.
	Architecture string `json:"architecture,omitempty"`
	// SchedulerName is given to pods that name no scheduler or the default one; "" leaves it.
	SchedulerName string `json:"schedulerName,omitempty"`
	// Schedulers are others that ask the extender.
	Schedulers []string `json:"schedulers,omitempty"`
	// UpperKeys are label keys beside those of tessera.sh/ that speak of clusters.
	UpperKeys []string `json:"upperKeys,omitempty"`
}

const givenHelp = `policy: only                 where pods go: only (to virtual nodes), prefer (those first), overflow (real nodes
                             first). A namespace's annotation tessera.sh/policy wins over it, and a pod's over that
clusterOrder: []             clusters in the order in which they are filled; also annotation tessera.sh/cluster-order: a,b
architecture: ""             label kubernetes.io/arch of the lower nodes for pods that name none; also annotation tessera.sh/architecture
                             of a namespace
schedulerName: ""            scheduler that marked pods are given if they name none or default-scheduler
schedulers: []               other schedulers that ask the extender. If this or schedulerName is set, pods that go to any other are denied
upperKeys: []                label keys beside tessera.sh/... that speak of clusters: virtual nodes have them, lower nodes do not
`

func (g *Given) settings(standard time.Duration) mutate.Settings {
	return mutate.Settings{
		Policy: g.Policy, ClusterOrder: g.ClusterOrder, Architecture: g.Architecture,
		SchedulerName: g.SchedulerName, Schedulers: g.Schedulers, UpperKeys: g.UpperKeys, Standard: standard,
	}
}
