// Package endpoint is where the kubelet API of virtual nodes is reached: an address of the process, a port for each virtual node, and
// the certificate for the two.
package endpoint
