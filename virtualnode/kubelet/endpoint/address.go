package endpoint

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// podIP is the variable in which a pod's manifest gives the pod its address (downward API).
const podIP = "POD_IP"

// addressInterval is the time between two looks at which address this machine has.
const addressInterval = 10 * time.Second

// Address is the one at which the upper API server reaches this process.
type Address struct {
	find func() string
	now  atomic.Pointer[string]
}

// NewAddress is the configured one, else that of the pod, else that of this machine on the way to the upper API server, host or host:port.
func NewAddress(configured, upper string) *Address {
	a := &Address{find: func() string { return local(upper) }}
	for _, fixed := range []string{configured, os.Getenv(podIP)} {
		if fixed != "" {
			a.find = func() string { return fixed }
			break
		}
	}
	a.look()
	return a
}

// local is this machine's address on the way to another, "" where there is no way. Nothing is sent.
func local(to string) string {
	if _, _, err := net.SplitHostPort(to); err != nil {
		to = net.JoinHostPort(strings.Trim(to, "[]"), "443")
	}
	conn, err := net.Dial("udp", to)
	if err != nil {
		return ""
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// String is the address as it was last seen, "" where none was.
func (a *Address) String() string { return *a.now.Load() }

// look reports whether it is another one than before. An address that is not to be found now is as it was.
func (a *Address) look() bool {
	before, now := a.now.Load(), a.find()
	if before != nil && (*before == now || now == "") {
		return false
	}
	a.now.Store(&now)
	return true
}

// Run looks at it until ctx ends, and calls changed when it is another one.
func (a *Address) Run(ctx context.Context, log *slog.Logger, changed func()) {
	ticker := time.NewTicker(addressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if a.look() {
			log.Info("The address of the kubelet API is another one", "address", a.String())
			changed()
		}
	}
}
