package extender

import (
	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/serve"
)

// NewCommand returns `tessera extender`.
func NewCommand() *cobra.Command {
	return serve.Command(serve.Daemon[Config]{
		Name:  "extender",
		Short: "Answer kube-scheduler which lower clusters can take a pod, node by node",
		Keys:  configHelp,
		Example: `  # extender.yaml
  clusters: /etc/tessera/clusters
  listen: 0.0.0.0:10260
  certFile: /etc/tessera/tls/tls.crt
  keyFile: /etc/tessera/tls/tls.key
  clientCAFile: /etc/tessera/tls/ca.crt

  tessera extender --config extender.yaml`,
		Default: DefaultConfig,
		Run:     Run,
	})
}
