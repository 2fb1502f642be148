//go:build !linux

package network

import (
	"context"
	"errors"
	"net"
)

// errLinux is why there are no networks elsewhere.
var errLinux = errors.New("network namespaces need Linux")

// Namespace is possible on Linux alone; here only the nil one exists.
type Namespace struct{}

// Do runs work.
func (n *Namespace) Do(work func() error) error { return work() }

// DialContext connects as any program does.
func (n *Namespace) DialContext(ctx context.Context, protocol, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, protocol, address)
}

// Listen listens as any program does.
func (n *Namespace) Listen(protocol, address string) (net.Listener, error) {
	return net.Listen(protocol, address)
}

// File is of no use here.
func (n *Namespace) File() string { return "" }

// Close has nothing to do.
func (n *Namespace) Close() {}

// Fabric is possible on Linux alone.
type Fabric struct{}

// New is possible on Linux alone.
func New([]Cluster) (*Fabric, error) { return nil, errLinux }

// Cluster is the nil namespace.
func (f *Fabric) Cluster(int) *Namespace { return nil }

// Close has nothing to do.
func (f *Fabric) Close() {}
