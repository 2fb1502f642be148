package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Namespace is a network namespace that exists as long as this process keeps it open or a process runs in it. Its methods may be
// called from any goroutine. A nil Namespace is the one that the caller is in.
type Namespace struct{ handle netns.NsHandle }

// newNamespace makes a namespace whose loopback is up.
func newNamespace() (*Namespace, error) {
	n := &Namespace{handle: netns.None()}
	err := aside(func() error {
		handle, err := netns.New() // The thread is in there now.
		if err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		n.handle = handle
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding the loopback of a network namespace: %w", err)
		}
		if err := netlink.LinkSetUp(loopback); err != nil {
			return fmt.Errorf("starting the loopback of a network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// aside runs work on a thread that is brought back into the namespace that it was in. A thread that cannot come back is not
// used for anything else: it ends with its goroutine.
func aside(work func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("opening the network namespace of this thread: %w", err)
	}
	defer own.Close()
	failed := work()
	if err := netns.Set(own); err != nil {
		return errors.Join(failed, fmt.Errorf("leaving a network namespace: %w", err))
	}
	runtime.UnlockOSThread()
	return failed
}

// Do runs work on this thread while the thread is in the namespace. Processes that it starts are in there; goroutines that it
// starts are not.
func (n *Namespace) Do(work func() error) error {
	if n == nil {
		return work()
	}
	return aside(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return work()
	})
}

// DialContext connects to a literal address as a program in the namespace would.
func (n *Namespace) DialContext(ctx context.Context, protocol, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		// One address, and so no goroutine: the socket is made on this thread. Its namespace is then its own.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, protocol, address)
		return err
	})
	return conn, err
}

// Listen listens at a literal address of the namespace.
func (n *Namespace) Listen(protocol, address string) (listener net.Listener, err error) {
	err = n.Do(func() error {
		listener, err = net.Listen(protocol, address)
		return err
	})
	return listener, err
}

// set writes a kernel setting of the namespace, such as net/ipv4/ip_forward. /proc/sys/net shows a thread that of its namespace.
func (n *Namespace) set(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s in a network namespace: %w", key, err)
		}
		return nil
	})
}

// File is the name by which other processes find the namespace while this one runs: nsenter --net=FILE.
func (n *Namespace) File() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle)) }

// Close lets go of the namespace.
func (n *Namespace) Close() {
	if n != nil && n.handle.IsOpen() {
		_ = n.handle.Close() // nothing is written to it
	}
}
