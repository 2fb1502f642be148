package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken below the range that the kernel uses for outgoing connections, so that no connection steals one
// between the choice and the bind.
const firstPort, lastPort = 20000, 32000

// freePort finds a port of 127.0.0.1 that nobody listens on.
func freePort() (int, error) {
	var last error
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("looking for a free port between %d and %d: %w", firstPort, lastPort, last)
}
