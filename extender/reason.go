package extender

import "github.com/tessera-k8s/tessera/internal/keys"

// texts say each reason in words. They carry no number and never change between attempts: the scheduler writes
// them into the pod's condition, and a changed condition would wake the pod at once, for ever.
var texts = map[keys.Reason]string{
	keys.InsufficientCPU:              "the lower cluster has not enough free CPU",
	keys.InsufficientMemory:           "the lower cluster has not enough free memory",
	keys.InsufficientEphemeralStorage: "the lower cluster has not enough free ephemeral storage",
	keys.InsufficientPods:             "the lower nodes run as many pods as they may",
	keys.InsufficientExtendedResource: "the lower cluster has not enough of an extended resource",
	keys.Fragmented:                   "enough is free in total, but on no single lower node",
	keys.NodeAffinity:                 "no lower node matches the pod's node selector or affinity",
	keys.Taint:                        "no lower node is ready, schedulable and tolerated",
	keys.HostPort:                     "a host port of the pod is taken on the lower nodes that have room",
	keys.PodAffinity:                  "pods on the lower nodes or in the cluster keep the pod away, or those it wants near are not there",
	keys.Spread:                       "the pod's topology spread allows none of the lower nodes that have room, or not the cluster",
	keys.Volume:                       "a volume of the pod is missing below or cannot be reached from the lower nodes that have room",
	keys.Claim:                        "no lower node that has room can give the pod the devices it claims",
	keys.Quota:                        "a quota or limit range of the lower namespace does not admit the pod",
	keys.Held:                         "the room is held for another pod",
	keys.Stale:                        "the lower cluster has not been heard of for too long",
	keys.NotSynced:                    "the view of the lower cluster is not ready",
	keys.Avoided:                      "the cluster, or its nodes that have room, are avoided for such pods for a while",
	keys.NameConflict:                 "the pod's name or namespace belongs to somebody else in the lower cluster",
	keys.RuntimeClass:                 "the runtime class of the pod is missing in the lower cluster, or contradicts the pod's node selector",
	keys.PriorityClass:                "the priority class of the pod is missing in the lower cluster",
	keys.NamespaceEnding:              "the pod's namespace is being deleted in the lower cluster",
	keys.RefusedBelow:                 "the lower cluster has refused such pods, see the condition tessera.sh/LowerPlaced of one",
	keys.NotScheduled:                 "no scheduler of the lower cluster looks at such pods",
	keys.Gated:                        "such pods are held back in the lower cluster by a scheduling gate",
	keys.Unschedulable:                "the lower cluster narrows where such pods may go, and found no node for one",
	keys.OtherCluster:                 "behind the kubeconfig is a cluster that the virtual node does not stand for",
	keys.Fenced:                       "the annotation tessera.sh/clusters of the pod's namespace does not select this virtual node",
	keys.NotAllowed:                   "the pod asks for a power over its lower node that this virtual node does not allow",
}

// text is the reason as the scheduler shows it: "Fragmented: enough is free in total, ...".
func text(reason keys.Reason) string { return string(reason) + ": " + texts[reason] }
