package admission

import (
	"errors"

	"github.com/tessera-k8s/tessera/internal/serve"
)

// Config is the file given to `tessera admission --config`.
type Config struct {
	serve.Config `json:",inline"`
}

// Validate reports every fault at once, each with the key and what to do.
func (c *Config) Validate() error {
	if c.Listen == "" {
		return errors.Join(errors.New("listen: give host:port, because API servers call webhooks over TLS only"), c.Config.Validate())
	}
	return c.Config.Validate()
}

// configHelp documents every key; a test compares it with Config. There is no more to configure than listening.
const configHelp = serve.ConfigHelp

const example = `  # admission.yaml
  listen: 0.0.0.0:10260              # API servers call webhooks over TLS only
  certFile: /etc/tessera/cert/tls.crt
  keyFile: /etc/tessera/cert/tls.key
  clientCAFile: /etc/tessera/cert/ca.crt   # who may read /metrics over TLS; default: nobody

  tessera admission --config admission.yaml`
