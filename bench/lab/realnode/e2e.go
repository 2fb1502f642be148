package realnode

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// E2ERegistry is where Kubernetes' own specs look for their images in a lab (RepoList of their flag -kube-test-repo-list).
const E2ERegistry = "lab.tessera.sh/e2e"

// E2EImages are the images that Kubernetes' own specs of pods want, as far as they can be made here: agnhost and nonewprivs, which are
// programs of theirs, and busybox, which is Debian's with bash for a shell, as ash forgets variables like "data-1". Their versions are
// those of k8s.io/kubernetes/test/utils/image.
//
// files are of the root folder: the programs agnhost and nnp, and the certificate that agnhost serves with.
func E2EImages(ctx context.Context, root string, files map[string][]byte) ([]byte, error) {
	busybox, bash, applets, err := shells(ctx, root)
	if err != nil {
		return nil, err
	}
	all := []File{
		{Name: "bin/", Mode: 0o755}, {Name: "etc/", Mode: 0o755}, {Name: "tmp/", Mode: 0o1777}, {Name: "uploads/", Mode: 0o777},
		{Name: "home/", Mode: 0o755}, {Name: "root/", Mode: 0o700}, {Name: "usr/bin/", Mode: 0o755}, {Name: "var/", Mode: 0o755},
		{Name: "agnhost-2", Mode: 0o777, Link: "/agnhost"}, {Name: "bin/busybox", Mode: 0o755, Data: busybox},
		{Name: "bin/bash", Mode: 0o755, Data: bash}, {Name: "bin/sh", Mode: 0o777, Link: "/bin/bash"},
		{Name: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home:/bin/sh\n")},
		{Name: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\nuser-defined-in-image:x:1000:\n" +
			"group-defined-in-image:x:50000:user-defined-in-image\n")},
		{Name: "usr/bin/curl", Mode: 0o755, Data: []byte(curl)}, {Name: "bin/nc", Mode: 0o755, Data: []byte(nc)},
	}
	for name, data := range files {
		mode := int64(0o755)
		if name == "nnp" {
			mode = 0o4755 // It tells whether that gives it another user.
		}
		all = append(all, File{Name: name, Mode: mode, Data: data})
	}
	for _, applet := range applets {
		if applet != "busybox" && applet != "sh" && applet != "bash" && applet != "nc" {
			all = append(all, File{Name: "bin/" + applet, Mode: 0o777, Link: "/bin/busybox"})
		}
	}
	name := func(names ...string) []string {
		for i := range names {
			names[i] = E2ERegistry + "/" + names[i]
		}
		return names
	}
	return Archive(all,
		Config{Names: name("agnhost:2.66.1", "agnhost:2.55"), Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}},
		Config{Names: name("pause:3.10.2"), Entrypoint: []string{"/agnhost", "pause"}},
		Config{Names: name("busybox:1.37.0-2", "glibc-dns-testing:2.1.1"), Cmd: []string{"sh"}},
		Config{Names: name("nonroot:1.5"), Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, User: "1234"},
		Config{Names: name("nonewprivs:1.4"), Entrypoint: []string{"/nnp"}},
	)
}

// curl is as much of it as the specs use: options that change nothing here, a limit of time, and an address.
const curl = `#!/bin/sh
time=15
while test $# -gt 1; do
  case $1 in --max-time) time=$2; shift ;; --connect-timeout) shift ;; esac
  shift
done
exec timeout "$time" wget -q -O - "$1"
`

// nc is as much of it as the specs use, and busybox's has no UDP: seconds to wait, UDP or not, an address and a port.
const nc = `#!/bin/bash
protocol=tcp time=1
while test $# -gt 2; do
  case $1 in -u) protocol=udp ;; -w) time=$2; shift ;; esac
  shift
done
exec 3<>"/dev/$protocol/$1/$2" || exit 1
cat >&3
timeout "$time" cat <&3
true
`

// shells fetches Debian's busybox and bash, and the names that busybox goes by.
func shells(ctx context.Context, root string) (busybox, bash []byte, applets []string, err error) {
	if err := prepare(ctx, root, "shells"); err != nil {
		return nil, nil, nil, err
	}
	file := filepath.Join(tools(), "busybox")
	if busybox, err = os.ReadFile(file); err != nil {
		return nil, nil, nil, fmt.Errorf("reading busybox: %w", err)
	}
	if bash, err = os.ReadFile(filepath.Join(tools(), "bash-static")); err != nil {
		return nil, nil, nil, fmt.Errorf("reading bash: %w", err)
	}
	list, err := exec.CommandContext(ctx, file, "--list").Output()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("asking busybox for its names: %w", err)
	}
	return busybox, bash, strings.Fields(string(list)), nil
}
