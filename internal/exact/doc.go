// Package exact asks the real kube-scheduler filter plugins, in this process, which nodes of a cluster can take a pod.
// It is the second truth beside internal/snapshot: the differential tests and the demo's oracle compare the two, so that
// "no node fits" is never Tessera's own opinion alone. And it is the exact path of the extender: pods that the snapshot's
// own indexes cannot decide (claims, disks, resource claims, extended resources that devices back) are decided here.
//
// The framework is built from the default profile of the Kubernetes version in go.mod, as a whole, with default arguments
// and default feature gates; lower clusters with other profiles may answer otherwise. What an older version is known to read
// otherwise (snapshot.Version) is put to the plugins as it reads it. The filters:
// NodeName, NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, VolumeRestrictions,
// NodeVolumeLimits, VolumeBinding, VolumeZone, PodTopologySpread, InterPodAffinity, DynamicResources and
// NodeDeclaredFeatures. Like kube-scheduler, they do not look at a node's Ready condition: a cluster shows it as a taint.
//
// Nothing here talks to an API server or runs in the background. The plugins read nodes and pods from kube-scheduler's
// snapshot and everything else from the stores of informers that are never started but filled by hand (objects.go), and
// the manager of devices is told of claims and classes as by an informer (devices.go).
//
// Building a cluster of 1,000 nodes and 10,000 pods takes tens of milliseconds, a question about a few candidates some
// milliseconds if the pod counts others (spread, affinity), else less; memory is about 3.5 kB a pod. `make bench` prints
// the figures of this machine. A Cluster is therefore built when a question needs it, and dropped.
//
// This is the only importer of k8s.io/kubernetes/pkg/scheduler, whose internal interfaces change with every minor version.
package exact
