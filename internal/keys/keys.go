// Package keys holds every label, annotation, taint, gate, condition and reason that Tessera puts on objects or
// answers with. Constants only, so that importing it drags in nothing.
package keys

// Domain is the prefix of every key. A node selector or affinity key of this domain speaks of virtual nodes and
// stays above when a pod is sealed; every other key speaks of lower nodes.
const Domain = "tessera.sh/"

// Names in the upper cluster.
const (
	// Enabled on a namespace: "true" or "false". On a pod "false" always wins; "true" counts with the component pod-opt-in, and where the
	// namespace does not say "false".
	Enabled = Domain + "enabled"
	// Policy is an annotation of a pod or, for its pods, of a namespace: to which nodes they go. Admission writes what holds onto pods.
	Policy         = Domain + "policy"
	PolicyOnly     = "only"     // to virtual nodes
	PolicyPrefer   = "prefer"   // to virtual nodes, and to real ones where those have no room
	PolicyOverflow = "overflow" // to real nodes, and to virtual ones where those have no room
	// ClusterOrder is an annotation of a pod or, for its pods, of a namespace: clusters separated by commas, the first that has room is
	// taken. Admission writes what holds onto pods.
	ClusterOrder = Domain + "cluster-order"
	// Architecture is an annotation of a namespace: that of the lower nodes for pods that say nothing of it.
	Architecture = Domain + "architecture"
	// Clusters is an annotation of a namespace: a label selector over virtual nodes, those that its pods may go to.
	Clusters = Domain + "clusters"
	// Decision is a pod annotation: what admission made of the pod and why (seal.Decision), as JSON.
	Decision = Domain + "decision"
	// Sealed is a pod annotation: the scheduling constraints put aside for the lower cluster, as JSON.
	Sealed = Domain + "sealed"
	// Cluster is the label of a virtual node: the name of its lower cluster.
	Cluster = Domain + "cluster"
	// Zone is a label of a virtual node: the zone that all its usable lower nodes are in.
	Zone = Domain + "zone"
	// LowerNode and LowerIP are pod annotations, facts written by virtualnode.
	LowerNode = Domain + "lower-node"
	LowerIP   = Domain + "lower-ip"
	// HintNode is a pod annotation: the lower node that room is held on. Above it is written together with the bind in
	// strict mode, below by virtualnode at the creation.
	HintNode = Domain + "hint-node"
	// Wake is a pod annotation; changing it makes kube-scheduler try that pod again, and no other.
	Wake = Domain + "wake"
	// VirtualTaint is the key of the NoSchedule taint of every virtual node.
	VirtualTaint = Domain + "virtual"
	// Usable is a condition of a virtual node: whether new pods may come. While it is False the node has the NoSchedule taint
	// with the key UnusableTaint; what runs there is not touched.
	Usable        = Domain + "Usable"
	UnusableTaint = Domain + "unusable"
	// CredentialsEnding is a condition of a virtual node: its token ends before long.
	CredentialsEnding = Domain + "CredentialsEnding"
	// NoUsableNodes is a reason of Usable: the cluster is heard of, and all its nodes are cordoned or not ready.
	NoUsableNodes = "NoUsableNodes"
	// LowerChanged is a reason of Usable: behind the kubeconfig is another cluster than the one that the virtual node stands for.
	LowerChanged = "LowerChanged"
	// IdentityTaken is a reason of Usable: another process of the same identity writes to the cluster.
	IdentityTaken = "IdentityTaken"
	// LowerUID is an annotation of a virtual node: the UID of the namespace kube-system of its lower cluster.
	LowerUID = Domain + "lower-uid"
	// FoundUID is an annotation of a virtual node: the same of another cluster that answers in its place. The Node stands for that
	// one from the moment that AcceptUID names it, which `tessera clusters accept` does.
	FoundUID  = Domain + "found-uid"
	AcceptUID = Domain + "accept-uid"
	// FoundHolder is an annotation of a virtual node: the name of another process of the same identity that holds the lease below.
	// The lease is taken from that one as soon as AcceptHolder names it, which `tessera clusters accept` does.
	FoundHolder  = Domain + "found-holder"
	AcceptHolder = Domain + "accept-holder"
	// Tolerations is a pod annotation: keys of taints, separated by commas, that Tessera has the pod tolerate as a pod on a
	// virtual node. They mean nothing below.
	Tolerations = Domain + "tolerations"
	// PodResource is the extended resource that marks a pod as Tessera's, with quantity "0".
	PodResource = Domain + "pod"
	// LowerScheduled is a pod condition type: PodScheduled of the lower pod, as virtualnode saw it.
	LowerScheduled = Domain + "LowerScheduled"
	// LowerPlaced is a pod condition type: False while something keeps the bound pod from a lower node, with the reason and the
	// lower cluster's words. It goes when the pod has one.
	LowerPlaced = Domain + "LowerPlaced"
	// Refused is an annotation of a virtual node: pods that its lower cluster refuses, as JSON (translate.Refusals).
	Refused = Domain + "refused"
	// LowerPod is a finalizer: the pod has ended above because its lower node is lost, and its lower pod is still there.
	// No pod of the same name may run elsewhere meanwhile.
	LowerPod = Domain + "lower-pod"
	// Token is a pod annotation: "upper", "lower" or "none", whose tokens of the pod's ServiceAccount it has in its volumes. Below it is
	// a label of the Secrets with such tokens: "upper".
	Token = Domain + "token"
	// Keep is a pod annotation: "true" keeps rebalance from moving the pod.
	Keep = Domain + "keep"
	// Rules is an annotation of a virtual node: how it translates pods (translate.Rules), as JSON.
	Rules = Domain + "rules"
	// NetworkOverlap is a condition of a virtual node: addresses of its pods may also belong to others.
	NetworkOverlap = Domain + "NetworkOverlap"
	// ServicesMirrored is a condition of a virtual node: Services of the upper cluster are found below by their names.
	ServicesMirrored = Domain + "ServicesMirrored"
	// PoliciesMirrored is a condition of a virtual node: NetworkPolicies of the upper cluster hold below, and mean the same there.
	PoliciesMirrored = Domain + "NetworkPoliciesMirrored"
	// PodMetrics is a condition of a virtual node, once somebody has asked for it: what its pods use is known.
	PodMetrics = Domain + "PodMetrics"
	// OrphanBrake is a condition of a virtual node: so many of its lower pods have no upper pod that none is collected.
	OrphanBrake = Domain + "OrphanBrake"
	// TokenOf is a label of Secrets in the install namespace: the lower cluster whose renewed token they hold.
	TokenOf = Domain + "token-of"
	// AvoidConfigMap is the ConfigMap in the install namespace that lists clusters to avoid.
	AvoidConfigMap = "tessera-avoid"
	// Namespace is the default install namespace.
	Namespace = "tessera-system"
)

// Names in a lower cluster.
const (
	// Upper is a label: the identity of the upper cluster that owns the object.
	Upper = Domain + "upper"
	// VirtualNode is a label: the virtual node through which the object came.
	VirtualNode = Domain + "virtual-node"
	// UpperUID, UpperNamespace and UpperName are annotations: the upper object this one stands for.
	UpperUID       = Domain + "upper-uid"
	UpperNamespace = Domain + "upper-namespace"
	UpperName      = Domain + "upper-name"
	// UsedBy is an annotation of an object that pods need: the virtual nodes whose pods do, separated by commas.
	UsedBy = Domain + "used-by"
	// RefreshAfter is an annotation of a Secret with tokens: when they are to be made anew, RFC 3339.
	RefreshAfter = Domain + "refresh-after"
	// UpperGeneration is an annotation: the generation of the upper pod that the lower one was last made equal to, unless that is 1.
	UpperGeneration = Domain + "upper-generation"
	// UpperLabels, UpperAnnotations and UpperServiceAccount are annotations, only where the pod reads them by the downward
	// API: the upper pod's, as a kubelet above would write them.
	UpperLabels         = Domain + "upper-labels"
	UpperAnnotations    = Domain + "upper-annotations"
	UpperServiceAccount = Domain + "upper-service-account"
	// UpperLabel and UpperAnnotation begin annotations for the same purpose: one label or annotation of the upper pod
	// that does not come down as it is. Its key follows, with _ for /.
	UpperLabel      = Domain + "upper-label."
	UpperAnnotation = Domain + "upper-annotation."
	// BroughtDown is an annotation of a pod: a note of what was last brought down, see package down.
	BroughtDown = Domain + "brought-down"
	// UpperSum is an annotation of a Secret with tokens: a checksum of what was written into it.
	UpperSum = Domain + "upper-sum"
	// OpenTo is a label of a namespace that is not ours: the identity of the upper cluster whose pods may go there, or "any".
	OpenTo = Domain + "open-to"
	// NamespaceLabels is an annotation of a namespace that we made: the keys of labels it takes over from the upper one.
	NamespaceLabels = Domain + "namespace-labels"
	// PodSecurity is an annotation of a namespace that we made: the least level that it was configured to enforce.
	PodSecurity = Domain + "pod-security"
	// HintGate is the scheduling gate behind which a lower pod waits for its hint.
	HintGate = Domain + "hint"
)

// Reasons of LowerPlaced for what the upper cluster refuses, so that no other lower cluster would help.
const (
	ObjectsUnread Reason = "ObjectsUnread" // it does not let a ConfigMap or Secret be read that the pod names
	TokenRefused  Reason = "TokenRefused"  // it gives no token of the pod's ServiceAccount
)

// Reason says why a virtual node does not take a pod. Few and stable: kube-scheduler counts equal texts, and a
// text that changes between attempts wakes the pod it is written to.
type Reason string

// The reasons of the contract.
const (
	InsufficientCPU              Reason = "InsufficientCPU"
	InsufficientMemory           Reason = "InsufficientMemory"
	InsufficientEphemeralStorage Reason = "InsufficientEphemeralStorage"
	InsufficientPods             Reason = "InsufficientPods"
	InsufficientExtendedResource Reason = "InsufficientExtendedResource"
	Fragmented                   Reason = "Fragmented"
	NodeAffinity                 Reason = "NodeAffinity"
	Taint                        Reason = "Taint"
	HostPort                     Reason = "HostPort"
	Volume                       Reason = "Volume"
	Spread                       Reason = "Spread"
	PodAffinity                  Reason = "PodAffinity"
	Claim                        Reason = "Claim"
	Quota                        Reason = "Quota"
	Held                         Reason = "Held"
	Stale                        Reason = "Stale"
	NotSynced                    Reason = "NotSynced"
	Avoided                      Reason = "Avoided"
	NameConflict                 Reason = "NameConflict"
	Gang                         Reason = "Gang"
	WaitsForNewNode              Reason = "WaitsForNewNode"
	// NotAllowed: the pod asks for a power over its node that the virtual node's rules do not let through.
	NotAllowed Reason = "NotAllowed"
	// Fenced: the pod's namespace may not use the cluster (annotation Clusters).
	Fenced Reason = "Fenced"
	// RuntimeClass and PriorityClass: the class that the pod names is missing in the lower cluster.
	RuntimeClass  Reason = "RuntimeClass"
	PriorityClass Reason = "PriorityClass"
	// NamespaceEnding: the lower namespace is being deleted.
	NamespaceEnding Reason = "NamespaceEnding"
	// RefusedBelow: the lower cluster does not take the pod: a policy, a webhook, or somebody who does not answer.
	RefusedBelow Reason = "RefusedBelow"
	// NetworkPolicy: a policy that selects the pod cannot mean the same in the lower cluster.
	NetworkPolicy Reason = "NetworkPolicy"
	// OtherCluster: behind the kubeconfig is another cluster than the one that the virtual node stands for, or one that another
	// virtual node stands for already, or that another upper cluster of the same identity works with.
	OtherCluster Reason = "OtherCluster"
)

// Reasons of the condition LowerPlaced of pods that are below and have no node there, beside those above.
const (
	Unschedulable Reason = "Unschedulable" // the lower scheduler found no node
	Gated         Reason = "Gated"         // somebody below holds it back by a scheduling gate
	NotScheduled  Reason = "NotScheduled"  // no lower scheduler has looked at it
)
