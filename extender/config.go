package extender

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// Config is the configuration file of `tessera extender`.
type Config struct {
	serve.Config `json:",inline"`
	// UpperKubeconfig is the file to reach the upper cluster with; empty inside of it.
	UpperKubeconfig string `json:"upperKubeconfig,omitempty"`
	// Clusters is the folder of NAME.kubeconfig files, one lower cluster each.
	Clusters string `json:"clusters"`
	// Identity names the upper cluster on its objects below; empty: the UID of its kube-system namespace.
	Identity string `json:"identity,omitempty"`
	// Namespace holds the ConfigMap tessera-avoid.
	Namespace string `json:"namespace,omitempty"`
	// FilterAnswer is "all" (every virtual node that fits) or "best" (the best one alone).
	FilterAnswer string `json:"filterAnswer,omitempty"`
	// MaxViewAge is how long after the last contact a cluster's snapshot is still answered from.
	MaxViewAge metav1.Duration `json:"maxViewAge"`
	// Settle is how long after a start virtual nodes are refused, so that binds in flight land.
	Settle metav1.Duration `json:"settle"`
	// FilterDeadline is when an answer that is not finished refuses the virtual nodes not yet judged.
	FilterDeadline metav1.Duration `json:"filterDeadline"`
}

// The values of filterAnswer.
const (
	answerAll  = "all"
	answerBest = "best"
)

// configHelp documents every key; a test compares it with Config.
const configHelp = `upperKubeconfig: ""          kubeconfig of the upper cluster; empty inside of it
clusters: DIR                folder of NAME.kubeconfig files, one lower cluster each; watched
identity: ""                 name of the upper cluster on its objects below; empty: UID of its kube-system namespace
namespace: tessera-system    namespace of the ConfigMap tessera-avoid
filterAnswer: all            all: every virtual node that fits; best: the best one alone
maxViewAge: 30s              a cluster not heard of for longer is refused as Stale
settle: 1s                   after a start virtual nodes are refused this long, so that binds in flight land
filterDeadline: 300ms        an answer not finished by then refuses the virtual nodes not yet judged
` + serve.ConfigHelp

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config {
	return &Config{
		Namespace:      keys.Namespace,
		FilterAnswer:   answerAll,
		MaxViewAge:     metav1.Duration{Duration: 30 * time.Second},
		Settle:         metav1.Duration{Duration: time.Second},
		FilterDeadline: metav1.Duration{Duration: 300 * time.Millisecond},
	}
}

// Validate implements serve.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Clusters == "" {
		errs = append(errs, errors.New("clusters: no folder given: name the folder that holds NAME.kubeconfig files"))
	}
	if c.FilterAnswer != answerAll && c.FilterAnswer != answerBest {
		errs = append(errs, fmt.Errorf("filterAnswer: %q is neither all nor best", c.FilterAnswer))
	}
	for key, value := range map[string]time.Duration{
		"maxViewAge": c.MaxViewAge.Duration, "filterDeadline": c.FilterDeadline.Duration,
	} {
		if value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s is not a positive duration such as 30s", key, value))
		}
	}
	if c.Settle.Duration < 0 {
		errs = append(errs, fmt.Errorf("settle: %s is negative", c.Settle.Duration))
	}
	return errors.Join(errs...)
}
