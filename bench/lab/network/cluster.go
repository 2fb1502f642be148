package network

import "net/netip"

// Cluster says how a cluster is joined with the others.
type Cluster struct {
	Address  netip.Prefix // of the cluster, with the width of the network that all have in common
	Routes   []Route
	Forwards bool // packets of its pods, on a bridge of its own
	Isolated bool // from all other isolated ones
}

// Route is a way out of a cluster's namespace. There is no other: no packet leaves the fabric.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // invalid: the network that all have in common
}
