// Package exact asks the real kube-scheduler filter plugins, in this process, which nodes of a cluster can take a pod.
// It is the second truth beside internal/snapshot: differential tests and the demo's oracle compare the two, so that
// "no node fits" is never Tessera's own opinion alone.
//
// The plugins run with their default arguments and the default feature gates of the Kubernetes version in go.mod:
// NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread and
// InterPodAffinity. Left out, because they need claims, volumes and classes that a list of nodes and pods does not hold:
// VolumeBinding, VolumeZone, VolumeRestrictions, NodeVolumeLimits, DynamicResources and NodeDeclaredFeatures. Namespaces
// are not known either, so the namespaceSelector of a pod affinity term matches no namespace. Like kube-scheduler, the
// plugins do not look at a node's Ready condition: a cluster shows it as a taint.
//
// The package is slow on purpose (it clones what changed before each question) and no daemon uses it. It is the only importer of
// k8s.io/kubernetes/pkg/scheduler, whose internal interfaces change with every minor version.
package exact
