package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// prepareRealNodes gets ready what does not depend on a cluster: containerd and the program of the image.
func (l *Lab) prepareRealNodes(ctx context.Context, root string) error {
	if err := realnode.Prepare(ctx, root, l.options.Networks != ""); err != nil {
		return err
	}
	l.payload = filepath.Join(l.dir, "bin", "payload")
	const source = "./bench/lab/realnode/payload"
	// Containers have no libc: the tags leave out what would want one.
	return goBuild(ctx, root, l.options.Log, "payload", "-tags=netgo,osusergo", "-ldflags=-s -w", "-o", l.payload, source)
}

// NoRealNode is why this machine cannot have a real node, or "" where it can.
func NoRealNode(ctx context.Context) string {
	root, err := moduleRoot()
	if err == nil {
		err = realnode.Prepare(ctx, root, false)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// planRealNode decides what the node's files and certificates need to know. Nodes of two labs at a time have two networks.
func (c *cluster) planRealNode() error {
	port, err := c.lab.pickPort()
	if err != nil {
		return err
	}
	network := netip.AddrFrom4([4]byte{10, byte(200 - c.index), byte(port), 0})
	c.real = &realnode.Node{
		Dir: filepath.Join(c.lab.dir, "state", c.name, "node"), Name: c.nodeName(1), Network: netip.PrefixFrom(network, 24), Port: port,
		Labels: labelNode + "=true," + corev1.LabelTopologyRegion + "=" + c.name + "," + corev1.LabelTopologyZone + "=" + c.name + "-a",
		Planes: c.lab.planes, Kubeconfig: c.pki("kubelet.kubeconfig"),
		ClientCA: c.pki("ca.crt"), Cert: c.pki("kubelet.crt"), Key: c.pki("kubelet.key"),
	}
	if c.network != nil {
		c.real.Network = podNetwork(c.index)
		c.real.Apart = &realnode.Apart{Address: c.address, DNS: c.dnsAddress(), ProxyKubeconfig: c.pki("kube-proxy.kubeconfig")}
	}
	return nil
}

// hasKubelet tells whether the API server is to reach one: that of a real node, or in the upper cluster one that speaks for a
// virtual node.
func (c *cluster) hasKubelet() bool { return c.index == 0 || c.real != nil || c.network != nil }

// writeKubeletKeys makes the certificates with which API server and kubelet talk to each other.
func (c *cluster) writeKubeletKeys() error {
	if !c.hasKubelet() {
		return nil
	}
	hosts := []string{c.name}
	if c.real != nil {
		hosts = []string{c.real.Name, c.real.Address().String()}
	} else if c.address.IsValid() {
		hosts = append(hosts, c.address.String())
	}
	serving, err := c.ca.server(hosts[0], hosts...)
	if err != nil {
		return err
	}
	client, err := c.ca.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"kubelet.crt": serving.cert, "kubelet.key": serving.key, "kubelet-client.crt": client.cert, "kubelet-client.key": client.key,
		"kubelet-ca.crt": c.ca.pem,
	}
	if c.index == 0 { // Virtual nodes sign their certificates themselves.
		nodes, err := newAuthority("virtual-nodes-ca")
		if err != nil {
			return err
		}
		key, err := nodes.keyPEM()
		if err != nil {
			return err
		}
		files["virtualnode-ca.crt"], files["virtualnode-ca.key"] = nodes.pem, key
		files["kubelet-ca.crt"] = slices.Concat(c.ca.pem, nodes.pem)
	}
	for name, data := range files {
		if _, err := c.lab.writeFile(filepath.Join("pki", c.name, name), data); err != nil {
			return err
		}
	}
	return nil
}

// kubeletArgs let the API server reach a kubelet, and give that of a real node its rights and no others.
func (c *cluster) kubeletArgs() []string {
	if !c.hasKubelet() {
		return nil
	}
	types := "InternalIP"
	if c.index == 0 {
		types = "Hostname,InternalIP" // That of virtual nodes is a Hostname, that of others no name which can be resolved.
	}
	args := []string{
		"--kubelet-preferred-address-types=" + types, "--kubelet-certificate-authority=" + c.pki("kubelet-ca.crt"),
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"), "--kubelet-client-key=" + c.pki("kubelet-client.key"),
	}
	if c.real != nil {
		args = append(args, "--authorization-mode=Node", "--enable-admission-plugins=NodeRestriction")
	}
	return args
}

// startRealNode brings the node up to the point where its Node is Ready.
func (c *cluster) startRealNode(ctx context.Context) error {
	if c.real == nil {
		return nil
	}
	pki := filepath.Join("pki", c.name)
	if _, err := c.writeKubeconfig(filepath.Join(pki, "kubelet.kubeconfig"), "system:node:"+c.real.Name, "system:nodes"); err != nil {
		return err
	}
	if _, err := c.writeKubeconfig(filepath.Join(pki, "kube-proxy.kubeconfig"), "system:kube-proxy"); err != nil {
		return err
	}
	if err := c.real.Write(); err != nil {
		return diskError(c.lab.dir, err)
	}
	if err := c.real.Claim(); err != nil {
		return err
	}
	containerd := c.lab.sup.process(c.name + "/containerd")
	path, args, env := c.real.Containerd()
	if err := containerd.start(ctx, command{
		path: path, args: args, env: env, apart: true, ready: c.real.Answers, network: c.network,
	}); err != nil {
		return err
	}
	if err := c.importPayload(ctx); err != nil {
		return err
	}
	path, args = c.real.Kubelet()
	return c.lab.sup.process(c.name+"/kubelet").start(ctx, command{
		path: path, args: args, within: containerd, ready: c.realNodeReady, network: c.network,
	})
}

func (c *cluster) importPayload(ctx context.Context) error {
	program, err := os.ReadFile(c.lab.payload)
	if err != nil {
		return fmt.Errorf("reading the program of the image: %w", err)
	}
	archive, err := realnode.Payload(program)
	if err != nil {
		return err
	}
	return c.real.Import(ctx, archive)
}

func (c *cluster) realNodeReady(ctx context.Context) error {
	node, err := c.client.CoreV1().Nodes().Get(ctx, c.real.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	ready := slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
	})
	if !ready {
		return fmt.Errorf("node %s is not Ready: %+v", node.Name, node.Status.Conditions)
	}
	return nil
}

// releaseRealNodes takes away what the nodes leave on the machine once their processes have ended.
func (l *Lab) releaseRealNodes() {
	for _, c := range l.clusters {
		if c.real == nil {
			continue
		}
		if err := c.real.Release(); err != nil {
			l.printf("%v", err) // the next lab with a real node tries again
		}
	}
}

// nodeCount is the number of nodes that the lab gives the cluster.
func (c *cluster) nodeCount() int {
	if c.real != nil {
		return 1
	}
	return len(c.nodes)
}
