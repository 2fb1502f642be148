package realnode

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// proxyHealthPort is where kube-proxy says that its rules are in place.
const proxyHealthPort = 10256

// KubeProxy is the command of kube-proxy, to be run in the namespaces of containerd: elsewhere iptables would leave a lock file on
// the machine.
func (n *Node) KubeProxy() (path string, args, env []string) {
	return n.Planes, []string{"kube-proxy", "--config=" + n.file("kube-proxy.yaml")}, n.env()
}

// ProxyHealth is the address and port where kube-proxy answers /healthz.
func (n *Node) ProxyHealth() string { return fmt.Sprintf("%s:%d", n.Address(), proxyHealthPort) }

// proxyConfig leaves the limits of connection tracking alone: they are the whole machine's, and the kernel refuses them in here.
func (n *Node) proxyConfig() ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "iptables", "clusterCIDR": n.Network.String(), "hostnameOverride": n.Name,
		"clientConnection": map[string]any{"kubeconfig": n.Apart.ProxyKubeconfig},
		"bindAddress":      n.Address().String(), "healthzBindAddress": n.ProxyHealth(), "metricsBindAddress": "127.0.0.1:10249",
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"iptables":  map[string]any{"minSyncPeriod": "100ms"},
	})
}
