// Package realnode describes a node that is not played: containerd and runc from Debian's packages, and the kubelet that
// bench/planes has. Package lab runs the processes; here is what they need: files, an image, a bridge and cgroups. A node that
// is Apart, in a network namespace of its own, has kube-proxy too, and its pods look up names.
//
// containerd is the first process in a pid and mount namespace of its own, and the kubelet lives in there, too. Whatever
// ends it, the kernel ends all pods with it and takes their mounts and networks away. On the machine itself there is only
// what Claim makes: a cgroup and, unless the node is Apart, a bridge, which carry the id of the node. No setting of the kernel is
// changed, but where cgroups are of version 2 prepare.sh has the root hand down its controllers. Two empty folders may stay,
// /var/lib/cni and /var/lib/kubelet: each node sees its own there.
package realnode
