package realnode

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed init.sh
var initScript []byte

// Node is what the lab decides about a real node. All paths are absolute.
type Node struct {
	Dir        string       // of everything that the node writes
	Name       string       // of the Node object
	Labels     string       // of the Node object, as KEY=VALUE,KEY=VALUE
	Network    netip.Prefix // of the pods; its first address is the node's, unless it has another one
	Port       int          // of the kubelet
	Planes     string       // the binary that holds the kubelet
	Kubeconfig string       // of the kubelet
	ClientCA   string       // signs who may call the kubelet
	Cert, Key  string       // what the kubelet serves with

	Apart *Apart // nil: the pods' bridge is on the machine

	watcher func() // ends what watches over the node, nil without it
}

// Apart is what a node in a network namespace of its own has beyond the others: pods that look up names, and Services.
type Apart struct {
	Address         netip.Addr // of the node, outside of its pods' network
	DNS             netip.Addr // of the cluster's DNS
	ProxyKubeconfig string     // of kube-proxy
}

// ID names the node's bridge and cgroup. It holds the id of this process, so that a later one can tell what is left over;
// 15 characters are all that the name of a bridge may have.
func (n *Node) ID() string { return fmt.Sprintf("ts%d-%d", os.Getpid(), n.Port) }

// idOf finds the process in an ID.
var idOf = regexp.MustCompile(`^ts([0-9]+)-[0-9]+$`)

// Address is where the kubelet listens: its own in a network namespace, else that of the bridge, which only this machine and its
// pods reach.
func (n *Node) Address() netip.Addr {
	if n.Apart != nil {
		return n.Apart.Address
	}
	return n.Network.Masked().Addr().Next()
}

// Write writes the configuration.
func (n *Node) Write() error {
	kubelet, err := n.kubeletConfig()
	if err != nil {
		return err
	}
	network, err := n.networkConfig()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"init.sh": initScript, "containerd.toml": n.containerdConfig(), "kubelet.yaml": kubelet, "cni/10-lab.conflist": network,
		"resolv.conf": []byte("# Pods of a lab look nothing up.\n"),
	}
	if n.Apart != nil {
		if files["kube-proxy.yaml"], err = n.proxyConfig(); err != nil {
			return err
		}
	}
	for name, data := range files {
		file := n.file(name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("creating the folder of a real node: %w", err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return fmt.Errorf("writing the configuration of a real node: %w", err)
		}
	}
	return nil
}

func (n *Node) file(name string) string { return filepath.Join(n.Dir, name) }

// Containerd is the command that makes the node: it is to be the first process of new pid and mount namespaces.
func (n *Node) Containerd() (path string, args, env []string) {
	path = "/bin/sh"
	args = []string{n.file("init.sh"), filepath.Join(tools(), "containerd"), "--config", n.file("containerd.toml")}
	env = n.env()
	if n.Apart != nil {
		env = append(env, "OWN_NETWORK=yes")
	}
	return path, args, env
}

// env lets containerd and kube-proxy find the programs that prepare.sh has collected.
func (n *Node) env() []string { return []string{"PATH=" + tools() + ":" + os.Getenv("PATH")} }

// Kubelet is the command of the kubelet, to be run in the namespaces of containerd.
func (n *Node) Kubelet() (path string, args []string) {
	return n.Planes, []string{
		"kubelet", "--config=" + n.file("kubelet.yaml"), "--kubeconfig=" + n.Kubeconfig,
		"--root-dir=" + n.file("kubelet"), "--cert-dir=" + n.file("kubelet-certs"),
		"--hostname-override=" + n.Name, "--node-ip=" + n.Address().String(), "--node-labels=" + n.Labels,
	}
}

// Answers is nil once containerd answers.
func (n *Node) Answers(ctx context.Context) error { return n.ctr(ctx, "version") }

// Import makes the image of an archive known to the kubelet.
func (n *Node) Import(ctx context.Context, archive []byte) error {
	file := n.file("image.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		return fmt.Errorf("writing the image of a real node: %w", err)
	}
	return n.ctr(ctx, "--namespace=k8s.io", "images", "import", "--snapshotter="+snapshotter, file)
}

// ctr runs containerd's own client.
func (n *Node) ctr(ctx context.Context, args ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(tools(), "ctr"), append([]string{"--address", n.file(socket)}, args...)...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("running ctr %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
