package virtualnode

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/serve"
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
	// Extender is the URL of the extender, which knows on which lower node it holds room for a pod; empty: no hints.
	Extender string `json:"extender,omitempty"`
	// ExtenderCAFile is the CA of the extender's certificate, PEM; empty: the system's CAs.
	ExtenderCAFile string `json:"extenderCAFile,omitempty"`
	// ExtenderTokenFile holds the bearer token shown to the extender; read again when it changes.
	ExtenderTokenFile string `json:"extenderTokenFile,omitempty"`
	// Hint says how the lower scheduler is told of the hold.
	Hint HintMode `json:"hint,omitempty"`
	// PerCluster is what differs for one lower cluster, by its name. A name that no cluster has does no harm.
	PerCluster map[string]ClusterConfig `json:"perCluster,omitempty"`
	// PodWorkers is how many pods of one virtual node are worked on at the same time.
	PodWorkers int `json:"podWorkers,omitempty"`
}

// ClusterConfig is what can be set for one lower cluster. Empty values leave what holds for all.
type ClusterConfig struct {
	// Hint replaces Config.Hint.
	Hint HintMode `json:"hint,omitempty"`
}

// hintOf returns the configured mode of a cluster.
func (c *Config) hintOf(cluster string) HintMode {
	if own := c.PerCluster[cluster].Hint; own != "" {
		return own
	}
	return c.Hint
}

// configHelp documents every key; a test compares it with Config.
const configHelp = `upperKubeconfig: ""          kubeconfig of the upper cluster; empty inside of it
clusters: DIR                folder of NAME.kubeconfig files, one virtual node NAME each; watched
identity: ""                 name of the upper cluster on its objects below; empty: UID of its kube-system namespace
extender: ""                 URL of the extender, asked for the lower node it holds room on; empty: no hints
extenderCAFile: ""           CA of the extender's certificate, PEM; empty: the system's
extenderTokenFile: ""        bearer token shown to the extender; read again when it changes
hint: nominated              how the lower scheduler is told that node. nominated: status.nominatedNodeName, and
                             preferred where patching the status of pods is forbidden; preferred: preferred node
                             affinity; required: required node affinity; off: it is not told
perCluster: {}               what differs for a lower cluster, {NAME: {hint: preferred}}; it takes
  hint: ""                   in place of the hint above; empty: that one
podWorkers: 20               pods of one virtual node worked on at the same time
` + serve.ConfigHelp

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config { return &Config{Hint: HintNominated, PodWorkers: 20} }

// Validate implements serve.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Clusters == "" {
		errs = append(errs, errors.New("clusters: no folder given: name the folder that holds NAME.kubeconfig files"))
	}
	if !c.Hint.known() {
		errs = append(errs, fmt.Errorf("hint: %q is none of %s", c.Hint, hintModes))
	}
	for _, name := range slices.Sorted(maps.Keys(c.PerCluster)) {
		errs = append(errs, c.PerCluster[name].validate(name))
	}
	if c.PodWorkers < 1 || c.PodWorkers > 1000 {
		errs = append(errs, fmt.Errorf("podWorkers: %d is not between 1 and 1000", c.PodWorkers))
	}
	if c.Extender != "" {
		if u, err := url.Parse(c.Extender); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("extender: %q is not a URL such as https://tessera-extender.tessera-system.svc:10260", c.Extender))
		}
	}
	return errors.Join(errs...)
}

func (c ClusterConfig) validate(name string) error {
	var errs []error
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		errs = append(errs, fmt.Errorf("perCluster: %q is no name of a cluster: %s", name, faults[0]))
	}
	if c.Hint != "" && !c.Hint.known() {
		errs = append(errs, fmt.Errorf("perCluster: %s: hint: %q is none of %s", name, c.Hint, hintModes))
	}
	return errors.Join(errs...)
}
