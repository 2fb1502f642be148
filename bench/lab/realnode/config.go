package realnode

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// socket is where containerd listens, in the node's folder: short, since the path of a socket may have 107 characters.
const socket = "c.sock"

// snapshotter copies the files of an image for each container. Unlike overlayfs it works on every file system, and there is
// one file.
const snapshotter = "native"

// containerdConfig has restrict_oom_score_adj because lowering that score is forbidden in many virtual machines.
func (n *Node) containerdConfig() []byte {
	return fmt.Appendf(nil, `version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
`, n.file("containerd"), n.file("run"), n.file(socket), n.file("opt"), Image, snapshotter, tools(), n.file("cni"))
}

// networkConfig puts pods onto the node's bridge and nowhere else: they have no route out. In a network namespace of the node they
// have one, and there it ends.
func (n *Node) networkConfig() ([]byte, error) {
	addresses := map[string]any{
		"type": "host-local", "dataDir": n.file("addresses"),
		"ranges": []any{[]any{map[string]any{"subnet": n.Network.String()}}},
	}
	bridge := map[string]any{"type": "bridge", "bridge": n.ID(), "isGateway": true, "ipam": addresses}
	plugins := []any{bridge}
	if n.Apart != nil {
		addresses["routes"] = []any{map[string]any{"dst": "0.0.0.0/0"}}
		bridge["hairpinMode"] = true // a Service may send a pod to itself
		plugins = append(plugins, map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}})
	}
	return json.Marshal(map[string]any{"cniVersion": "0.4.0", "name": n.ID(), "plugins": plugins})
}

// kubeletConfig keeps the kubelet's hands off the machine, and leaves what pods see of it at the defaults.
func (n *Node) kubeletConfig() ([]byte, error) {
	dns, domain := n.Address(), "" // nobody answers there, but without one each pod gets a warning
	if n.Apart != nil {
		dns, domain = n.Apart.DNS, "cluster.local"
	}
	return yaml.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": n.Address().String(), "port": n.Port, "healthzPort": 0, "tlsCertFile": n.Cert, "tlsPrivateKeyFile": n.Key,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "x509": map[string]any{"clientCAFile": n.ClientCA},
			"webhook": map[string]any{"enabled": true},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + n.file(socket),
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/" + n.ID(), "failCgroupV1": false, "enforceNodeAllocatable": []string{},
		"failSwapOn": false, "makeIPTablesUtilChains": false, "resolvConf": n.file("resolv.conf"),
		"clusterDNS": []string{dns.String()}, "clusterDomain": domain,
		"podLogsDir": n.file("logs"), "volumePluginDir": n.file("volume-plugins"),
		"containerLogMaxSize":         "100Mi", // of what is rotated away the kubelet shows nothing, and loads read some 50 MB
		"evictionHard":                map[string]string{"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		"imageGCHighThresholdPercent": 100, // the image cannot be pulled again
	})
}
