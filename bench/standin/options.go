package standin

import (
	"errors"
	"fmt"
	"time"

	"github.com/tessera-k8s/tessera/bench/standin/play"
)

// Options say what is played. The same seed and numbers make the same clusters, but for times, addresses and tokens.
type Options struct {
	// Clusters is how many lower clusters there are, named PREFIX1 and so on.
	Clusters int
	// Prefix begins their names; "" is standin-.
	Prefix string
	// Nodes and Pods are those of each cluster.
	Nodes, Pods int
	// Pending is the share of the pods that no node takes, 0 to 1.
	Pending float64
	// Seed decides on everything.
	Seed uint64
	// Dir is the folder for the files NAME.kubeconfig; it is made if it is not there.
	Dir string
	// Churn is how many events a second pods make, in all clusters together.
	Churn float64
	// Heartbeat is how often each node's status is renewed; 0: never.
	Heartbeat time.Duration
	// UniqueLabels gives each node labels that no other has.
	UniqueLabels bool
	// Lean leaves out managedFields and the images of nodes, which weigh and which nobody reads.
	Lean bool
}

// DefaultOptions are a small world.
func DefaultOptions() Options {
	return Options{Clusters: 3, Prefix: "standin-", Nodes: 100, Pods: 1000, Seed: 1, Heartbeat: 5 * time.Minute}
}

// most are limits: names and addresses of one length are made for these.
const (
	mostClusters = 1000
	mostNodes    = 500_000
	mostPods     = 10_000_000
)

// Validate says what cannot be played.
func (o *Options) Validate() error {
	var faults []error
	within := func(flag string, value, least, most int) {
		if value < least || value > most {
			faults = append(faults, fmt.Errorf("--%s: %d is not between %d and %d", flag, value, least, most))
		}
	}
	within("clusters", o.Clusters, 1, mostClusters)
	within("nodes", o.Nodes, 0, mostNodes)
	within("pods", o.Pods, 0, mostPods)
	if o.Pending < 0 || o.Pending > 1 {
		faults = append(faults, fmt.Errorf("--pending: %g is no share between 0 and 1", o.Pending))
	}
	if o.Churn < 0 || o.Heartbeat < 0 {
		faults = append(faults, errors.New("--churn and --heartbeat cannot be negative"))
	}
	if o.Dir == "" {
		faults = append(faults, errors.New("--dir: no folder given for the kubeconfigs"))
	}
	return errors.Join(faults...)
}

func (o *Options) rates() play.Rates { return play.Rates{Churn: o.Churn, Heartbeat: o.Heartbeat} }
