package virtualnode

import (
	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/serve"
)

// NewCommand returns `tessera virtualnode`.
func NewCommand() *cobra.Command {
	return serve.Command(serve.Daemon[Config]{
		Name:  "virtualnode",
		Short: "Show each lower cluster as one node and run the pods bound to it there",
		Keys:  configHelp,
		Example: `  # virtualnode.yaml
  clusters: /etc/tessera/clusters
  extender: https://tessera-extender.tessera-system.svc:10260
  extenderCAFile: /etc/tessera/tls/ca.crt
  extenderTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
  listen: 0.0.0.0:10260
  certFile: /etc/tessera/tls/tls.crt
  keyFile: /etc/tessera/tls/tls.key

  tessera virtualnode --config virtualnode.yaml`,
		Default: DefaultConfig,
		Run:     Run,
	})
}
