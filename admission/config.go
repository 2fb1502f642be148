package admission

import (
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// Config is the file given to `tessera admission --config`.
type Config struct {
	serve.Config `json:",inline"`
	Given        `json:",inline"`
	// DefaultToleration is the time that the upper API server has pods tolerate a lost node if they say nothing.
	DefaultToleration metav1.Duration `json:"defaultToleration"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config {
	return &Config{Given: Given{Policy: keys.PolicyOnly}, DefaultToleration: metav1.Duration{Duration: 5 * time.Minute}}
}

// Validate reports every fault at once, each with the key and what to do.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Listen == "" {
		errs = append(errs, errors.New("listen: give host:port, because API servers call webhooks over TLS only"))
	}
	errs = append(errs, c.settings().Validate())
	return errors.Join(errs...)
}

// settings are those for mutate.
func (c *Config) settings() mutate.Settings { return c.Given.settings(c.DefaultToleration.Duration) }

// configHelp documents every key; a test compares it with Config.
const configHelp = `defaultToleration: 5m        how long the upper API server has pods tolerate a lost node if they say nothing (its flag
                             --default-unreachable-toleration-seconds); pods with any other time keep it
` + givenHelp + serve.ConfigHelp

const example = `  # admission.yaml
  listen: 0.0.0.0:10260              # API servers call webhooks over TLS only
  certFile: /etc/tessera/cert/tls.crt
  keyFile: /etc/tessera/cert/tls.key
  clientCAFile: /etc/tessera/cert/ca.crt   # who may read /metrics over TLS; default: nobody

  tessera admission --config admission.yaml`
