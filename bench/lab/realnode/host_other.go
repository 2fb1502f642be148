//go:build !linux

package realnode

import "errors"

// Claim is possible on Linux alone.
func (n *Node) Claim() error { return errors.New("claiming a real node: a kubelet needs Linux") }

// Release has nothing to do.
func (n *Node) Release() error { return nil }
