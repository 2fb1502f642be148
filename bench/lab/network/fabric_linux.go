package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// link is the name of a cluster's end of the cable to the fabric's bridge.
const link = "eth0"

// Fabric is what joins the clusters: one namespace each, and one with the bridge.
type Fabric struct {
	bridge   *Namespace
	clusters []*Namespace
}

// New makes the namespaces of the clusters, in their order, and joins them. Between isolated ones no packet passes, but between
// each of them and those that are not isolated.
func New(clusters []Cluster) (*Fabric, error) {
	f := &Fabric{}
	if err := f.build(clusters); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fabric) build(clusters []Cluster) error {
	var err error
	if f.bridge, err = newNamespace(); err != nil {
		return err
	}
	fabric, err := netlink.NewHandleAt(f.bridge.handle)
	if err != nil {
		return fmt.Errorf("speaking to a network namespace: %w", err)
	}
	defer fabric.Close()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "br0"
	bridge := &netlink.Bridge{LinkAttrs: attributes}
	if err := fabric.LinkAdd(bridge); err != nil {
		return fmt.Errorf("making the bridge of the fabric: %w", err)
	}
	if err := fabric.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("starting the bridge of the fabric: %w", err)
	}
	for i, c := range clusters {
		namespace, err := newNamespace()
		if err != nil {
			return err
		}
		f.clusters = append(f.clusters, namespace)
		if err := plug(fabric, bridge, namespace.handle, i, c); err != nil {
			return fmt.Errorf("joining cluster %d with the fabric: %w", i, err)
		}
		if err := c.configure(namespace); err != nil {
			return err
		}
	}
	return nil
}

// plug lays a cable from the bridge to a cluster.
func plug(fabric *netlink.Handle, bridge netlink.Link, cluster netns.NsHandle, number int, c Cluster) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MasterIndex = fmt.Sprintf("port%d", number), bridge.Attrs().Index
	port := &netlink.Veth{LinkAttrs: attributes, PeerName: link, PeerNamespace: netlink.NsFd(int(cluster))}
	if err := fabric.LinkAdd(port); err != nil {
		return fmt.Errorf("laying a cable: %w", err)
	}
	if c.Isolated {
		if err := fabric.LinkSetIsolated(port, true); err != nil {
			return fmt.Errorf("isolating a port of the bridge: %w", err)
		}
	}
	return fabric.LinkSetUp(port)
}

// configure gives a cluster its address, its routes and the settings of the kernel that its own namespace has.
func (c Cluster) configure(namespace *Namespace) error {
	forward := "0"
	if c.Forwards {
		forward = "1"
		// Pods of one node reach each other over a bridge. Without this the rules of Services do not see those packets.
		if err := namespace.set("net/bridge/bridge-nf-call-iptables", "1"); err != nil {
			return err
		}
	}
	if err := namespace.set("net/ipv4/ip_forward", forward); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(namespace.handle)
	if err != nil {
		return fmt.Errorf("speaking to a network namespace: %w", err)
	}
	defer inside.Close()
	end, err := inside.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding %s of a cluster: %w", link, err)
	}
	if err := inside.AddrAdd(end, &netlink.Addr{IPNet: ipNet(c.Address)}); err != nil {
		return fmt.Errorf("giving a cluster the address %s: %w", c.Address, err)
	}
	if err := inside.LinkSetUp(end); err != nil {
		return fmt.Errorf("starting %s of a cluster: %w", link, err)
	}
	for _, r := range c.Routes {
		route := &netlink.Route{LinkIndex: end.Attrs().Index, Dst: ipNet(r.To)}
		if r.Via.IsValid() {
			route.Gw = r.Via.AsSlice()
		}
		if err := inside.RouteAdd(route); err != nil {
			return fmt.Errorf("adding the route to %s: %w", r.To, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Cluster is the namespace of cluster i, counted from 0.
func (f *Fabric) Cluster(i int) *Namespace { return f.clusters[i] }

// Close lets go of all namespaces. Their processes must have been ended.
func (f *Fabric) Close() {
	for _, n := range append(f.clusters, f.bridge) {
		n.Close()
	}
}
