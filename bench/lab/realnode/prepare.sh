#!/bin/sh
# Makes sure that this machine can have a real node (kubelet, containerd, runc), and with the argument networks also one in a
# network namespace of its own, with kube-proxy; with shells, those of images. Prints in one line why it cannot, and nothing if it can. What is missing is
# unpacked from Debian's packages into the user's cache folder; they are not installed, so that no service of the system is
# started, changed or used.
set -eu

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tessera/real-node

no() {
  echo "$*"
  exit 0
}

# link NAME FOLDER...: a link in the cache to the first NAME that is there.
link() {
  name=$1
  shift
  for folder; do
    if test -x "$folder/$name"; then
      ln -sf "$folder/$name" "$cache/bin/$name"
      return 0
    fi
  done
  return 1
}

collect() {
  for program in containerd containerd-shim-runc-v2 ctr runc; do
    link $program "$cache/usr/bin" "$cache/usr/sbin" /usr/local/bin /usr/local/sbin /usr/bin /usr/sbin || return 1
  done
  for plugin in bridge host-local loopback; do
    link $plugin "$cache/usr/lib/cni" /usr/lib/cni /opt/cni/bin /usr/libexec/cni || return 1
  done
}

# collect_iptables makes iptables and its siblings. Packages have no files of these names, and their libraries are not where the
# system looks for them.
collect_iptables() {
  link portmap "$cache/usr/lib/cni" /usr/lib/cni /opt/cni/bin /usr/libexec/cni || return 1
  link xtables-nft-multi /usr/sbin "$cache/usr/sbin" || return 1
  where=
  if test ! -x /usr/sbin/xtables-nft-multi; then
    for libraries in "$cache"/usr/lib/*-linux-*; do
      where="LD_LIBRARY_PATH='$libraries' XTABLES_LIBDIR='$libraries/xtables'"
    done
  fi
  for name in iptables iptables-save iptables-restore; do
    printf '#!/bin/sh\n%s exec %s %s "$@"\n' "$where" "'$cache/bin/xtables-nft-multi'" $name >"$cache/bin/$name.$$"
    chmod +x "$cache/bin/$name.$$"
    mv "$cache/bin/$name.$$" "$cache/bin/$name"
  done
}

fetch() {
  apt-get -o APT::Sandbox::User=root download "$@"
}

unpack() {
  packages=$(mktemp -d)
  (cd "$packages" && { fetch "$@" || { apt-get update && fetch "$@"; }; }) >&2 || return 1
  for package in "$packages"/*.deb; do
    dpkg-deb --extract "$package" "$cache" || return 1
  done
  rm -r "$packages"
}

# A cgroup of version 2 has the controllers that its parent hands down.
cgroups() {
  tree=/sys/fs/cgroup
  if test -e $tree/cgroup.controllers; then
    for controller in cpu cpuset io memory pids hugetlb; do
      echo "+$controller" >$tree/cgroup.subtree_control || true
    done
    grep -qw cpu $tree/cgroup.subtree_control && grep -qw memory $tree/cgroup.subtree_control || return 1
  else
    tree=$tree/memory
  fi
  mkdir "$tree/tessera-probe-$$" && rmdir "$tree/tessera-probe-$$"
}

test "$(uname -s)" = Linux || no "a kubelet needs Linux"
test "$(id -u)" = 0 || no "a kubelet needs root"
for program in unshare nsenter mount; do
  command -v $program >/dev/null || no "$program (util-linux) is missing"
done
test -e /dev/kmsg || no "a kubelet needs /dev/kmsg, which containers rarely have"
unshare --pid --fork --mount sh -c 'mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run' 2>/dev/null ||
  no "namespaces with mounts of their own are not allowed here"
if command -v ip >/dev/null; then
  unshare --net sh -c 'ip link add bridge type bridge && ip link add one type veth peer name two' 2>/dev/null || no "bridges cannot be made here"
fi
cgroups 2>/dev/null || no "cgroups cannot be made here"

mkdir -p "$cache/bin"
if ! collect; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    no "containerd, runc or the CNI plugins are missing, and there is no apt-get to fetch them with"
  unpack containerd runc containernetworking-plugins || no "containerd, runc or the CNI plugins are missing, and apt-get could not fetch them"
  collect || no "Debian's packages have other files than expected"
fi
"$cache/bin/runc" --version >/dev/null 2>&1 || no "runc does not run here (libseccomp2 missing?)"
# static finds or fetches programs without libraries.
static() {
  for program; do
    test -x "$cache/bin/$program" || link $program "$cache/usr/bin" || unpack ${program%-static}-static || return 1
    test -x "$cache/bin/$program" || link $program "$cache/usr/bin" || return 1
  done
}
if test "${1-}" = shells; then
  static busybox bash-static || no "busybox-static or bash-static is missing, and apt-get could not fetch it"
fi
test "${1-}" = networks || exit 0

if ! collect_iptables; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    no "iptables (nft) or the CNI plugin portmap is missing, and there is no apt-get to fetch them with"
  unpack iptables libmnl0 libnftnl11 libxtables12 || no "iptables (nft) is missing, and apt-get could not fetch it"
  collect_iptables || no "Debian's packages have other files than expected"
fi
rules() {
  unshare --net "$cache/bin/iptables-restore" --wait <<END
*nat
-A OUTPUT -p tcp -m comment --comment probe -m addrtype --dst-type LOCAL -m statistic --mode random --probability 0.5 -j DNAT --to-destination 198.18.0.1:80
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
-A POSTROUTING -j MARK --or-mark 0x4000
COMMIT
*filter
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
END
}
rules 2>/dev/null || no "this kernel does not know the iptables rules of kube-proxy"
unshare --net test -e /proc/sys/net/bridge/bridge-nf-call-iptables || no "this kernel does not show bridged packets to iptables (br_netfilter missing?)"
