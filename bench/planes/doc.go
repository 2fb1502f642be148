// Command planes is every Kubernetes process of the lab in one binary, chosen by the first argument:
//
//	planes control-plane --etcd-dir DIR -- FLAGS   etcd and kube-apiserver in one process (saves about 60 MiB a cluster)
//	planes kube-apiserver|kube-controller-manager|kube-scheduler|etcd|kwok|kubectl FLAGS
//	planes kubelet|kube-proxy FLAGS                Linux only
//
// Each one is the unchanged upstream command. bench/lab builds this package once into the user's cache folder; nothing
// else in the module imports these packages, because linking them takes 20 s and 2.3 GB of memory.
package main
