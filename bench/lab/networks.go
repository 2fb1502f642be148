package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"github.com/tessera-k8s/tessera/bench/lab/network"
)

// Networks says how the networks of a lab's clusters are joined. Each cluster has a network namespace of its own then, and an
// address in a network that all have in common; all parts of Tessera are in that of the upper cluster.
type Networks string

const (
	// Flat routes the pods' networks of all lower clusters to each other, and to the upper cluster.
	Flat Networks = "flat"
	// Isolated lets no packet pass between lower clusters, neither of pods nor of nodes. The upper cluster and each lower one
	// reach each other's address, and pods' networks end at their own cluster.
	Isolated Networks = "isolated"
)

// mostNetworks is how many lower clusters have room in the numbers of serviceCIDR and podNetwork.
const mostNetworks = 40

// networks is what joins the clusters of a lab. A nil one joins nothing: all are on the machine's own network.
type networks struct {
	fabric *network.Fabric

	mu         sync.Mutex
	forwarders []*network.Forwarder
}

// validateRealNodes refuses what cannot be joined, and nodes without a cluster. With networks each lower cluster gets a node.
func (o *Options) validateRealNodes() error {
	switch o.Networks {
	case "":
		if o.RealNodes < 0 || o.RealNodes > o.Lower {
			return fmt.Errorf("checking lab options: %d lower clusters cannot have %d real nodes, one each", o.Lower, o.RealNodes)
		}
		return nil
	case Flat, Isolated:
	default:
		return fmt.Errorf("checking lab options: networks are %s or %s, not %q", Flat, Isolated, o.Networks)
	}
	if o.Lower < 1 || o.Lower > mostNetworks {
		return fmt.Errorf("checking lab options: %d lower clusters asked for, with networks 1 to %d are possible", o.Lower, mostNetworks)
	}
	o.RealNodes = o.Lower
	return nil
}

// makeNetworks makes the namespaces of all clusters, if they are to have any.
func (l *Lab) makeNetworks() error {
	if l.options.Networks == "" {
		return nil
	}
	var clusters []network.Cluster
	for k := range l.options.Lower + 1 {
		clusters = append(clusters, l.options.place(k))
	}
	fabric, err := network.New(clusters)
	if err != nil {
		return fmt.Errorf("making the networks of the clusters: %w", err)
	}
	l.networks = &networks{fabric: fabric}
	return nil
}

// place is where cluster k is, 0 being the upper one.
func (o *Options) place(k int) network.Cluster {
	p := network.Cluster{Address: netip.PrefixFrom(address(k), 24)}
	if k > 0 {
		p.Forwards, p.Isolated = true, o.Networks == Isolated
		// Pods reach Services by the rules of their node alone; what runs in the namespace itself needs a route for that.
		p.Routes = append(p.Routes, network.Route{To: serviceNetwork(k)})
	}
	for other := 1; other <= o.Lower && o.Networks == Flat; other++ {
		if other != k {
			p.Routes = append(p.Routes, network.Route{To: podNetwork(other), Via: address(other)})
		}
	}
	return p
}

// address is that of a cluster. 198.18.0.0/15 is for tests of networks (RFC 2544): should a packet get onto another one, it is not
// delivered to anybody.
func address(k int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(10 + k)}) }

func podNetwork(k int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(200 - k), 1, 0}), 24)
}

func serviceNetwork(k int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(96 + k), 0, 0}), 16)
}

// openPort picks a port of 127.0.0.1. In a namespace it is reached from the machine by the same number.
func (n *networks) openPort(pick func() (int, error), inside *network.Namespace) (int, error) {
	port, err := pick()
	if n == nil || err != nil {
		return port, err
	}
	forwarder, err := network.Forward(inside, port)
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("%w: %w", errPortBusy, err)
	}
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forwarders = append(n.forwarders, forwarder)
	return port, nil
}

// close lets go of everything. The processes in the namespaces must have been ended.
func (n *networks) close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.forwarders {
		f.Close()
	}
	n.fabric.Close()
}

// Network is the network namespace of a cluster, 0 being the upper one, to dial, listen and start processes in; nil if the lab has
// no networks. It is the lab's, and ends with it.
func (l *Lab) Network(k int) *network.Namespace { return l.clusters[k].network }

// Address is that of a cluster, 0 being the upper one, for the other clusters; invalid if the lab has no networks.
func (l *Lab) Address(k int) netip.Addr { return l.clusters[k].address }

// join puts a cluster into its namespace, if it has one.
func (c *cluster) join() {
	if c.lab.networks != nil {
		c.network, c.address = c.lab.networks.fabric.Cluster(c.index), address(c.index)
	}
}

// serverForParts is the API server as the parts of Tessera see it. They are in the upper cluster's namespace.
func (c *cluster) serverForParts() string {
	if c.index == 0 || !c.address.IsValid() {
		return c.server()
	}
	return fmt.Sprintf("https://%s:%d", c.address, c.port)
}

// serverForPods is the API server as pods of other clusters see it, if these have networks.
func (c *cluster) serverForPods() string {
	if !c.address.IsValid() {
		return c.server()
	}
	return fmt.Sprintf("https://%s:%d", c.address, c.port)
}

// addressArgs say where the API server listens. In a namespace that is loopback too, where a forwarder comes out.
func (c *cluster) addressArgs() []string {
	if !c.address.IsValid() {
		return []string{"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"}
	}
	return append([]string{"--bind-address=0.0.0.0", "--advertise-address=" + c.address.String()}, c.aggregationArgs()...)
}
