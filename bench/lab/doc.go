// Package lab runs whole Kubernetes clusters as child processes: one upper cluster and N lower ones, each with real
// etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and with KWOK in place of the kubelets. Lower
// clusters may have one node that really runs pods, Options.RealNodes, and all clusters networks of their own, Options.Networks.
//
// Tests use it as a library (Start, Main), people through `go run ./bench lab up|down|status` (NewCommand). The parts
// of Tessera run as the product binary with the RBAC of package manifests, so what passes here passes in a cluster.
// The control planes come from bench/planes, which is built once into the user's cache folder.
package lab
