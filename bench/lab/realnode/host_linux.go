package realnode

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

//go:embed watch.sh
var watchScript string

// releaseWithin bounds the wait for a cgroup's last processes, which have been killed already.
const releaseWithin = 10 * time.Second

// Claim makes the node's cgroup and, on the machine, its bridge with the node's address. What nodes of processes that have gone
// left over is taken away first.
func (n *Node) Claim() error {
	if err := sweep(); err != nil {
		return err
	}
	for _, tree := range trees() {
		if err := os.MkdirAll(filepath.Join(tree, n.ID()), 0o755); err != nil {
			return fmt.Errorf("creating the cgroup of a real node: %w", err)
		}
	}
	if n.Apart != nil {
		return n.watch() // the bridge comes from the CNI plugin, and goes with the namespace
	}
	return n.makeBridge()
}

func (n *Node) makeBridge() error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = n.ID()
	bridge := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("creating the bridge of a real node: %w", err)
	}
	address, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", n.Address(), n.Network.Bits()))
	if err != nil {
		return fmt.Errorf("reading the address of a real node: %w", err)
	}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("giving the bridge of a real node its address: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("starting the bridge of a real node: %w", err)
	}
	return nil
}

// Release takes away what Claim has made. The node's processes must have been ended.
func (n *Node) Release() error {
	err := release(n.ID())
	if n.watcher != nil {
		n.watcher()
	}
	return err
}

// watch starts a script that takes the node's cgroup away when this process has ended without doing it, killed for example. The
// kernel does that with everything else that a node in a network namespace has.
func (n *Node) watch() error {
	script := exec.Command("/bin/sh", append([]string{"-c", watchScript, "watch", n.ID()}, trees()...)...)
	script.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the lab
	alive, err := script.StdinPipe()                        // closed by the kernel if not by Release
	if err != nil {
		return fmt.Errorf("watching over a real node: %w", err)
	}
	if err := script.Start(); err != nil {
		return fmt.Errorf("watching over a real node: %w", err)
	}
	n.watcher = func() {
		_ = alive.Close() // the script ends: it finds nothing
		_ = script.Wait()
	}
	return nil
}

func release(id string) error {
	var failed []error
	link, err := netlink.LinkByName(id)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		failed = append(failed, fmt.Errorf("removing the bridge %s: %w", id, err))
	}
	for _, tree := range trees() {
		if err := removeCgroup(filepath.Join(tree, id)); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// trees are the roots of the cgroup hierarchies: one of version 2, and one a controller of version 1.
func trees() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		return []string{root}
	}
	found, _ := filepath.Glob(root + "/*/cgroup.procs") // the pattern is well formed
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

// removeCgroup removes a cgroup and those in it, the innermost first. One is busy until its last process is reaped.
func removeCgroup(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	slices.Reverse(groups)
	for deadline := time.Now().Add(releaseWithin); err == nil && len(groups) > 0; {
		err = os.Remove(groups[0])
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			groups, err = groups[1:], nil
		case errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline):
			time.Sleep(20 * time.Millisecond)
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("removing the cgroup %s: %w", dir, err)
	}
	return nil
}

// sweep releases the nodes of processes that were killed: the kernel has ended what ran on them.
func sweep() error {
	folders := append(trees(), "/sys/class/net")
	left := map[string]bool{}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return fmt.Errorf("looking for what a real node has left over: %w", err)
		}
		for _, entry := range entries {
			id := idOf.FindStringSubmatch(entry.Name())
			if id == nil {
				continue
			}
			pid, err := strconv.Atoi(id[1])
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				left[id[0]] = true
			}
		}
	}
	var failed []error
	for id := range left {
		failed = append(failed, release(id))
	}
	return errors.Join(failed...)
}
