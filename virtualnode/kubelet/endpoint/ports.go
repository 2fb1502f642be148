package endpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// Ports gives each virtual node of the process a port of its own, which it keeps: its Node says which. Its methods are safe for
// concurrent use.
type Ports struct {
	bind        string
	first, last int

	mu    sync.Mutex
	known map[int]string // the virtual node that a port is kept for
}

// NewPorts are those from the first to the last one, of an address; "" for all addresses.
func NewPorts(bind string, first, last int) *Ports {
	return &Ports{bind: bind, first: first, last: last, known: map[int]string{}}
}

// Keep takes from the virtual nodes as they stand which port is whose, before the first one listens.
func (p *Ports) Keep(nodes []corev1.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range nodes {
		port := int(nodes[i].Status.DaemonEndpoints.KubeletEndpoint.Port)
		if port >= p.first && port <= p.last && p.known[port] == "" {
			p.known[port] = nodes[i].Name
		}
	}
}

// Listen opens the port of a virtual node: the one that is kept for it, else the first that is free and kept for nobody, else one that
// is kept for another, whose Node may be left over from a cluster that has gone.
func (p *Ports) Listen(ctx context.Context, node string) (net.Listener, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range p.order(node) {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(p.bind, strconv.Itoa(port)))
		switch {
		case err == nil:
			maps.DeleteFunc(p.known, func(_ int, of string) bool { return of == node })
			p.known[port] = node
			return listener, port, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, 0, fmt.Errorf("listening for node %s: %w", node, err)
		}
	}
	return nil, 0, fmt.Errorf("listening for node %s: all ports from %d to %d are taken: a wider range for kubelet: ports helps",
		node, p.first, p.last)
}

// order are the ports in the order in which they are tried. The caller holds the lock.
func (p *Ports) order(node string) []int {
	rank := func(port int) int {
		switch p.known[port] {
		case node:
			return 0
		case "":
			return 1
		}
		return 2
	}
	var all []int
	for port := p.first; port <= p.last; port++ {
		all = append(all, port)
	}
	slices.SortStableFunc(all, func(a, b int) int { return rank(a) - rank(b) })
	return all
}
