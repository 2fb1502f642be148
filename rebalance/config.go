package rebalance

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// Config is the configuration file of `tessera rebalance`.
type Config struct {
	serve.Config `json:",inline"`
	// UpperKubeconfig is the file to reach the upper cluster with; empty inside of it.
	UpperKubeconfig string `json:"upperKubeconfig,omitempty"`
	// Extender is the URL of the extender, which is told what to avoid before a pod is evicted.
	Extender string `json:"extender,omitempty"`
	// ExtenderCAFile signs the extender's certificate; empty: the system's CAs.
	ExtenderCAFile string `json:"extenderCAFile,omitempty"`
	// ExtenderTokenFile holds the bearer token for the extender, read at each use.
	ExtenderTokenFile string `json:"extenderTokenFile,omitempty"`
	// DryRun shows, logs and counts moves without making them.
	DryRun bool `json:"dryRun"`
	// Interval is the time between two plans.
	Interval metav1.Duration `json:"interval"`
	// StuckAfter is how long a pod may be unschedulable below before it is moved.
	StuckAfter metav1.Duration `json:"stuckAfter"`
	// AvoidFor is how long the owner of a moved pod avoids the cluster.
	AvoidFor metav1.Duration `json:"avoidFor"`
	// StuckAfterBy is StuckAfter for a cluster, a reason, or both.
	StuckAfterBy []StuckAfter `json:"stuckAfterBy"`
	// NeedsTarget leaves pods where they are for which the extender knows of no other cluster.
	NeedsTarget bool `json:"needsTarget"`
	Stay        `json:",inline"`
	Limits      `json:",inline"`
	// LeaderElection lets several replicas run, one of which moves pods; by the lease tessera-rebalance in Namespace.
	LeaderElection serve.LeaderElection `json:"leaderElection"`
	Namespace      string               `json:"namespace,omitempty"`
}

// configHelp documents every key; a test compares it with Config.
const configHelp = `upperKubeconfig: ""          kubeconfig of the upper cluster; empty inside of it
extender: ""                 URL of the extender; needed unless dryRun
extenderCAFile: ""           CA of the extender's certificate, PEM; empty: the system's
extenderTokenFile: ""        file with the bearer token for the extender, read at each use
dryRun: false                show, log and count moves without making them
interval: 10s                time between two plans
stuckAfter: 60s              a pod that is kept from every lower node for longer is moved, whatever keeps it
stuckAfterBy: []             the same by cluster and reason, "" is any, the first that matches counts:
                             [{cluster: berlin, reason: Unschedulable, after: 10m}] where an autoscaler or a queue works below
avoidFor: 10m                how long the owner of a moved pod avoids the cluster
needsTarget: true            a pod stays where it is if the extender knows of no other cluster for it
protectedNamespaces: [kube-system, tessera-system]   pods there stay
movableOwners: [ReplicaSet, ReplicationController, StatefulSet, Job]   kinds of controllers whose pods are moved
maxUnplacedPerCycle: 20      moves of pods that never ran in one plan
maxUnplacedPerHour: 1000     and in an hour; the limits that follow are for pods that ran:
maxPerCycle: 10              moves in one plan
maxPerNamespacePerCycle: 5   of these in one namespace
maxPerOwnerPerHour: 3        moves of one owner's pods (ReplicaSet, Job, ...) in an hour
maxPerHour: 100              when so many pods were moved in an hour, nothing is moved until it is fewer
leaderElection:              several replicas, one of which moves pods (lease tessera-rebalance):
  {enabled: false, leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s}
namespace: tessera-system    namespace of that lease
` + serve.ConfigHelp

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config {
	return &Config{
		Interval:   metav1.Duration{Duration: 10 * time.Second},
		StuckAfter: metav1.Duration{Duration: time.Minute},
		AvoidFor:   metav1.Duration{Duration: 10 * time.Minute},
		Limits:     DefaultLimits(),
		Stay:       DefaultStay(),

		NeedsTarget: true,
		Namespace:   keys.Namespace,

		LeaderElection: serve.DefaultLeaderElection(),
	}
}

// longestAvoid is what the extender takes at most.
const longestAvoid = 24 * time.Hour

// Validate implements serve.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate(), c.validate()}
	if c.Extender == "" && !c.DryRun {
		errs = append(errs, errors.New("extender: no URL given: without it evicted pods would come back, or set dryRun: true"))
	}
	if u, err := url.Parse(c.Extender); c.Extender != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		errs = append(errs, fmt.Errorf("extender: %q is not a URL such as https://HOST:10260", c.Extender))
	}
	for key, value := range map[string]time.Duration{
		"interval": c.Interval.Duration, "stuckAfter": c.StuckAfter.Duration, "avoidFor": c.AvoidFor.Duration,
	} {
		if value < time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is not a duration of at least 1s", key, value))
		}
	}
	for i, by := range c.StuckAfterBy {
		if by.After.Duration < time.Second {
			errs = append(errs, fmt.Errorf("stuckAfterBy: entry %d: after: %s is not a duration of at least 1s", i+1, by.After.Duration))
		}
	}
	if c.AvoidFor.Duration > longestAvoid {
		errs = append(errs, fmt.Errorf("avoidFor: %s is longer than %s, the most that the extender takes", c.AvoidFor.Duration, longestAvoid))
	}
	return errors.Join(append(errs, c.LeaderElection.Validate(c.Namespace))...)
}
