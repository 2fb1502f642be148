package virtualnode

import (
	"errors"
	"fmt"
	"net/url"

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
	// Hint says how the lower scheduler is told of the hold: "nominated" or "off".
	Hint string `json:"hint,omitempty"`
	// PodWorkers is how many pods of one virtual node are worked on at the same time.
	PodWorkers int `json:"podWorkers,omitempty"`
}

// The values of hint.
const (
	hintNominated = "nominated"
	hintOff       = "off"
)

// configHelp documents every key; a test compares it with Config.
const configHelp = `upperKubeconfig: ""          kubeconfig of the upper cluster; empty inside of it
clusters: DIR                folder of NAME.kubeconfig files, one virtual node NAME each; watched
identity: ""                 name of the upper cluster on its objects below; empty: UID of its kube-system namespace
extender: ""                 URL of the extender, asked for the lower node it holds room on; empty: no hints
extenderCAFile: ""           CA of the extender's certificate, PEM; empty: the system's
extenderTokenFile: ""        bearer token shown to the extender; read again when it changes
hint: nominated              nominated: the lower scheduler is told by status.nominatedNodeName; off: not told
podWorkers: 20               pods of one virtual node worked on at the same time
` + serve.ConfigHelp

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config { return &Config{Hint: hintNominated, PodWorkers: 20} }

// Validate implements serve.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Clusters == "" {
		errs = append(errs, errors.New("clusters: no folder given: name the folder that holds NAME.kubeconfig files"))
	}
	if c.Hint != hintNominated && c.Hint != hintOff {
		errs = append(errs, fmt.Errorf("hint: %q is neither nominated nor off", c.Hint))
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
