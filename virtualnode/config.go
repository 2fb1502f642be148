package virtualnode

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/kubelet"
)

// Config is the configuration file of `tessera virtualnode`.
type Config struct {
	serve.Config `json:",inline"`
	// UpperKubeconfig is the file to reach the upper cluster with; empty inside of it.
	UpperKubeconfig string `json:"upperKubeconfig,omitempty"`
	// Clusters is the folder of NAME.kubeconfig files, one lower cluster and one virtual node NAME each.
	Clusters string `json:"clusters"`
	// Identity names the upper cluster on its objects below; empty: the UID of its kube-system namespace.
	Identity string `json:"identity,omitempty"`
	// Everywhere has all upper namespaces take part but those that say tessera.sh/enabled=false.
	Everywhere bool `json:"everywhere,omitempty"`
	// Extender is the URL of the extender, which knows on which lower node it holds room for a pod; empty: no hints.
	Extender string `json:"extender,omitempty"`
	// ExtenderCAFile is the CA of the extender's certificate, PEM; empty: the system's CAs.
	ExtenderCAFile string `json:"extenderCAFile,omitempty"`
	// ExtenderTokenFile holds the bearer token shown to the extender; read again when it changes.
	ExtenderTokenFile string `json:"extenderTokenFile,omitempty"`
	// Kubelet is the kubelet API of the virtual nodes.
	Kubelet kubelet.Config `json:"kubelet"`
	// ClusterConfig is what holds for every lower cluster that PerCluster does not say otherwise of.
	ClusterConfig `json:",inline"`
	// PerCluster is what differs for one lower cluster, by its name. A name that no cluster has does no harm.
	PerCluster map[string]ClusterConfig `json:"perCluster,omitempty"`
	// PodWorkers is how many pods of one virtual node are worked on at the same time.
	PodWorkers int `json:"podWorkers,omitempty"`
	// DefaultToleration is for how long the upper API server has pods tolerate a lost node if they say nothing: what its flags
	// --default-not-ready-toleration-seconds and --default-unreachable-toleration-seconds say. onLost changes that time alone.
	DefaultToleration metav1.Duration `json:"defaultToleration"`
	// RenewTokens has tokens of lower clusters renewed by TokenRequest.
	RenewTokens bool `json:"renewTokens"`
	// TokenRefreshAfter is the age at which tokens of upper ServiceAccounts are made anew; 0 is half of their life.
	TokenRefreshAfter metav1.Duration `json:"tokenRefreshAfter"`
	// OrphanGrace is how long a lower pod stays whose upper pod has gone without this process having seen it go, counted
	// from when the upper cluster was last seen whole.
	OrphanGrace metav1.Duration `json:"orphanGrace"`
	// OwnNames are names of ConfigMaps and Secrets that each cluster publishes in every namespace: pods that name one are given
	// the lower cluster's.
	OwnNames []string `json:"ownNames,omitempty"`
	// LeaderElection lets several replicas run, one of which serves the virtual nodes; by the lease tessera-virtualnode in
	// Namespace.
	LeaderElection serve.LeaderElection `json:"leaderElection"`
	Namespace      string               `json:"namespace,omitempty"`
}

// configHelp documents every key; a test compares it with Config.
const configHelp = `upperKubeconfig: ""          kubeconfig of the upper cluster; empty inside of it
clusters: DIR                folder of NAME.kubeconfig files, one virtual node NAME each; watched
identity: ""                 name of the upper cluster on its objects below; empty: UID of its kube-system namespace
everywhere: false            all upper namespaces take part but those with tessera.sh/enabled=false, as the component everywhere has it
                             in admission; false: those alone with tessera.sh/enabled=true
extender: ""                 URL of the extender, asked for the lower node it holds room on; empty: no hints
extenderCAFile: ""           CA of the extender's certificate, PEM; empty: the system's
extenderTokenFile: ""        bearer token shown to the extender; read again when it changes
podWorkers: 20               pods of one virtual node worked on at the same time
defaultToleration: 5m        how long the upper API server has pods tolerate a lost node if they say nothing (its flags
                             --default-not-ready-toleration-seconds, --default-unreachable-toleration-seconds); pods with
                             any other time keep it, whatever onLost says
renewTokens: true            tokens of the kubeconfigs are renewed after half of their life, into Secrets tessera-token-NAME
tokenRefreshAfter: 0s        age at which tokens of upper ServiceAccounts that pods have below are made anew; 0: half of their life
orphanGrace: 15m             how long a lower pod whose upper pod has gone unseen stays, counted from when it was first seen alone or
                             the upper cluster was last not whole, whichever is later
ownNames: [kube-root-ca.crt, istio-ca-root-cert, openshift-service-ca.crt]
                             ConfigMaps and Secrets that each cluster publishes in every namespace: pods that name one get the
                             lower cluster's; all others that they name are brought along
leaderElection:              several replicas, one of which serves all virtual nodes (lease tessera-virtualnode):
  {enabled: false, leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s}
namespace: tessera-system    namespace of that lease, and of renewed tokens
` + kubelet.Help + `perCluster: {}               what differs for a lower cluster, {NAME: {hint: preferred}}: any of the keys that follow

` + clusterHelp + "\n" + serve.ConfigHelp

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config {
	return &Config{
		PodWorkers: 20, RenewTokens: true, DefaultToleration: metav1.Duration{Duration: 5 * time.Minute},
		OrphanGrace:    metav1.Duration{Duration: 15 * time.Minute},
		OwnNames:       []string{"kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt"},
		LeaderElection: serve.DefaultLeaderElection(), Namespace: keys.Namespace,
		Kubelet: kubelet.DefaultConfig(), ClusterConfig: defaultClusterConfig(),
	}
}

// validateNames looks at the names of objects.
func (c *Config) validateNames() (errs []error) {
	for _, name := range c.OwnNames {
		if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
			errs = append(errs, fmt.Errorf("ownNames: %q is no name of a ConfigMap or Secret: %s", name, strings.Join(faults, "; ")))
		}
	}
	return errs
}

// Validate implements serve.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate(), c.LeaderElection.Validate(c.Namespace)}
	if c.Clusters == "" {
		errs = append(errs, errors.New("clusters: no folder given: name the folder that holds NAME.kubeconfig files"))
	}
	errs = append(errs, c.validate(""))
	if c.OrphanGrace.Duration < 0 {
		errs = append(errs, fmt.Errorf("orphanGrace: %s is negative", c.OrphanGrace.Duration))
	}
	if c.TokenRefreshAfter.Duration < 0 {
		errs = append(errs, fmt.Errorf("tokenRefreshAfter: %s is negative", c.TokenRefreshAfter.Duration))
	}
	errs = append(errs, c.validateNames()...)
	if c.DefaultToleration.Duration < 0 {
		errs = append(errs, fmt.Errorf("defaultToleration: %s is negative", c.DefaultToleration.Duration))
	}
	errs = append(errs, c.Kubelet.Validate())
	errs = append(errs, c.validateClusters()...)
	if c.PodWorkers < 1 || c.PodWorkers > 1000 {
		errs = append(errs, fmt.Errorf("podWorkers: %d is not between 1 and 1000", c.PodWorkers))
	}
	if c.RenewTokens && c.Namespace == "" && !c.LeaderElection.Enabled {
		errs = append(errs, errors.New("namespace: empty, renewed tokens go there"))
	}
	if c.Extender != "" {
		if u, err := url.Parse(c.Extender); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("extender: %q is not a URL such as https://tessera-extender.tessera-system.svc:10260", c.Extender))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateClusters() (errs []error) {
	for _, name := range append([]string{""}, slices.Sorted(maps.Keys(c.PerCluster))...) {
		if own := c.cluster(name); slices.Contains(own.Allow, translate.UpperToken) && own.UpperAPI == "" {
			errs = append(errs, fmt.Errorf("upperAPI: empty, needed by allow: [%s]%s: the URL of the upper API server as pods below reach it",
				translate.UpperToken, strings.TrimSuffix(" of cluster "+name, " of cluster ")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.PerCluster)) {
		if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
			errs = append(errs, fmt.Errorf("perCluster: %q is no name of a cluster: %s", name, faults[0]))
		}
		errs = append(errs, c.PerCluster[name].validate("perCluster: "+name+": "))
	}
	return errs
}
