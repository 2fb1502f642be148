package snapshot

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/nodedeclaredfeatures"
	featuretypes "k8s.io/component-helpers/nodedeclaredfeatures/types"
	podresources "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Owner names what a pod belongs to: its controller, or the pod itself where it has none.
type Owner struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// OwnerOf returns the owner of a pod.
func OwnerOf(pod *corev1.Pod) Owner {
	if controller := metav1.GetControllerOf(pod); controller != nil {
		return Owner{Kind: controller.Kind, Namespace: pod.Namespace, Name: controller.Name, UID: controller.UID}
	}
	return Owner{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// Pod is a pod that asks for room: the pod as it will be below, reduced to what fit looks at.
type Pod struct {
	// Requests include Pods: 1.
	Requests Resources
	// Object is the pod itself, as it comes through one of the virtual nodes that make the same of it, see Whole. Read only; nil in
	// simulations.
	Object *corev1.Pod
	// Inexact: the pod has claims or volumes that the columns know nothing of. They can refuse it, not accept it.
	Inexact bool
	// Refused, if set, is why the API server below will not let the pod in.
	Refused keys.Reason
	// OpenNamespaces are the lower namespaces not made by us that it may go to nevertheless; "*" is all of them.
	OpenNamespaces []string
	// Part is what its virtual node stands for. Which nodes take part is a matter of the pod's affinity, too.
	Part Part
	// Above is what it prefers of clusters.
	Above Above
	// Across is what it demands of other pods over all clusters; nil for most pods.
	Across *Across

	tenant
	needs       []amount // of Requests, those above zero
	name        uint64   // hash of namespace and name
	tolerations []corev1.Toleration
	affinity    nodeaffinity.RequiredNodeAffinity
	byName      bool     // the affinity tells apart nodes by what each has of its own
	labelsAsked []string // of nodes, by the affinity
	features    []string // that the node must declare
	near        []term
	spread      []constraint
	malformed   bool // a selector cannot be read: no scheduler takes the pod
	preferred   preferences
	unsaid      unsaid

	extra Resources // of Requests, what admission below is expected to add
	base  *Pod      // see Base; nil if it is this one
	whole *corev1.Pod
}

// NewPod reduces a pod as it will be in the lower cluster (translate.LowerPod).
func NewPod(lower *corev1.Pod) *Pod {
	requests := Requests(lower)
	p := &Pod{
		Requests:    requests,
		needs:       needsOf(requests),
		Object:      lower,
		Inexact:     inexact(&lower.Spec),
		tenant:      newTenant(lower),
		name:        nameHash(lower.Namespace, lower.Name),
		tolerations: lower.Spec.Tolerations,
		affinity:    nodeaffinity.GetRequiredNodeAffinity(lower),
		byName:      asksForNames(&lower.Spec),
		labelsAsked: labelsAsked(&lower.Spec),
		features:    requiredFeatures(&lower.Spec),
		preferred:   newPreferences(lower),
		unsaid:      unsaidOf(lower, requests),
	}
	p.terminating, p.ours = false, true
	affinityOK, apartOK := true, true
	if affinity := lower.Spec.Affinity; affinity != nil {
		if affinity.PodAffinity != nil {
			p.near, affinityOK = newTerms(lower.Namespace, affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
		if affinity.PodAntiAffinity != nil {
			_, apartOK = newTerms(lower.Namespace, affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
	}
	var spreadOK bool
	p.spread, spreadOK = newConstraints(lower, corev1.DoNotSchedule)
	p.malformed = !affinityOK || !apartOK || !spreadOK
	return p
}

// Via returns the pod as it comes through another virtual node, which a label names.
func (p *Pod) Via(virtualNode string) *Pod {
	if p == nil {
		return nil
	}
	other := *p
	other.base, other.via, other.whole = p.Base(), virtualNode, nil
	return &other
}

// Whole is the pod itself, for the exact path; nil in simulations.
func (p *Pod) Whole() *corev1.Pod {
	if p.Object == nil || p.via == "" {
		return p.Object
	}
	if p.whole == nil {
		object := *p.Object
		object.Labels = labels.Merge(object.Labels, labels.Set{keys.VirtualNode: p.via})
		p.whole = &object
	}
	return p.whole
}

// Base is the pod as it was before Via, and before admission below was thought of: one for all that it goes through.
func (p *Pod) Base() *Pod {
	if p == nil || p.base == nil {
		return p
	}
	return p.base
}

// amount is that of one resource.
type amount struct {
	name corev1.ResourceName
	of   int64
}

// needsOf lists the amounts above zero, in the order of Each.
func needsOf(requests Resources) (needs []amount) {
	requests.Each(func(name corev1.ResourceName, of int64) {
		if of > 0 {
			needs = append(needs, amount{name, of})
		}
	})
	return needs
}

// with returns the pod with more requests.
func (p *Pod) with(extra Resources) *Pod {
	larger := *p
	larger.base = p.Base()
	larger.Requests, larger.extra = p.sent().Plus(extra), extra
	larger.needs, larger.unsaid = needsOf(larger.Requests), p.Base().unsaid.less(extra)
	return &larger
}

// sent is what the pod itself asks for.
func (p *Pod) sent() Resources { return p.Requests.Minus(p.extra) }

// plain reports whether resources and the node itself decide, and no other pod does.
func (p *Pod) plain() bool { return len(p.ports)+len(p.near)+len(p.apart)+len(p.spread) == 0 }

// inexact reports whether volumes or claims decide on the node, too.
func inexact(spec *corev1.PodSpec) bool {
	return len(spec.ResourceClaims) > 0 || slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
		s := &v.VolumeSource
		harmless := s.EmptyDir != nil || s.HostPath != nil || s.Secret != nil || s.ConfigMap != nil || s.Projected != nil ||
			s.DownwardAPI != nil || s.NFS != nil || s.Image != nil || s.GitRepo != nil
		return !harmless
	})
}

// asksForNames reports whether the node affinity looks at what every node has of its own.
func asksForNames(spec *corev1.PodSpec) bool {
	if _, ok := spec.NodeSelector[corev1.LabelHostname]; ok {
		return true
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return false
	}
	required := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	return required != nil && slices.ContainsFunc(required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		return len(t.MatchFields) > 0 || slices.ContainsFunc(t.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool {
			return e.Key == corev1.LabelHostname
		})
	})
}

// labelsAsked are the labels of nodes that the node affinity looks at, each once.
func labelsAsked(spec *corev1.PodSpec) []string {
	asked := slices.Collect(maps.Keys(spec.NodeSelector))
	var terms []corev1.NodeSelectorTerm
	if affinity := spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		if required := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
			terms = required.NodeSelectorTerms
		}
	}
	for _, term := range terms {
		for _, e := range term.MatchExpressions {
			asked = append(asked, e.Key)
		}
	}
	slices.Sort(asked)
	return slices.Compact(asked)
}

// requiredFeatures are those that a node must declare (NodeDeclaredFeatures), by the newest version: an older lower cluster
// drops a field that it does not know, and so the pod does not go where no node declares what the field needs.
func requiredFeatures(spec *corev1.PodSpec) []string {
	framework := nodedeclaredfeatures.DefaultFramework
	set, err := framework.InferForPodScheduling(&featuretypes.PodInfo{Spec: spec}, kubernetes)
	if err != nil || set.IsEmpty() {
		return nil
	}
	names, _ := framework.Unmap(set) // The set is the framework's own.
	return names
}

// Requests is what kube-scheduler 1.37 charges a node for a pod: init and sidecar containers, overhead, pod-level
// resources and, for a pod under in-place resize, the larger of what it has and what it asks; and one pod.
func Requests(pod *corev1.Pod) Resources {
	requests := FromList(podresources.PodRequests(pod, podresources.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}))
	requests.Pods = 1
	return requests
}

// Finished reports whether a pod no longer uses its node.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// LowerPod is a pod that exists in a lower cluster, reduced to what a snapshot needs of it.
type LowerPod struct {
	UID types.UID
	// Node is empty while the pod is pending.
	Node     string
	Requests Resources
	Finished bool
	// UpperUID is set on pods of our upper cluster alone: the UID of the upper pod.
	UpperUID types.UID
	// Hint is the node that the pod is to go to: status.nominatedNodeName or, of an own pod, what virtualnode noted.
	Hint string
	// Unschedulable: the lower scheduler has tried and found no node.
	Unschedulable bool
	// Gated: the lower scheduler does not look at the pod yet.
	Gated bool
	// Priority and Created order pending pods as the lower scheduler does.
	Priority int32
	Created  time.Time
	// Refusal is set on those of our own pods that the kubelet of their node did not let in.
	Refusal *Refusal
	// Object is kept of a pod whose volumes or claims matter to others; nil for most.
	Object *corev1.Pod

	tenant
	name       uint64                   // hash of namespace and name
	apartTerms []corev1.PodAffinityTerm // what apart was read from
	unsaid     unsaid
	asks       *Pod // while it is pending
}

// NewLowerPod reduces a pod of a lower cluster; identity is that of the upper cluster.
func NewLowerPod(pod *corev1.Pod, identity string) *LowerPod {
	lower := &LowerPod{
		UID: pod.UID, Node: pod.Spec.NodeName, Requests: Requests(pod), Finished: Finished(pod), Hint: pod.Status.NominatedNodeName,
		Gated: len(pod.Spec.SchedulingGates) > 0, Created: pod.CreationTimestamp.Time, tenant: newTenant(pod),
		name: nameHash(pod.Namespace, pod.Name),
	}
	lower.unsaid = unsaidOf(pod, lower.Requests)
	if pod.Spec.Priority != nil {
		lower.Priority = *pod.Spec.Priority
	}
	if pod.Labels[keys.Upper] == identity && identity != "" {
		lower.UpperUID = types.UID(pod.Annotations[keys.UpperUID])
		lower.ours = true
		lower.Hint = cmp.Or(lower.Hint, pod.Annotations[keys.HintNode])
		lower.Refusal = newRefusal(pod, lower.Requests)
	}
	lower.Unschedulable = pod.Spec.NodeName == "" && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
	})
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.PodAntiAffinity != nil {
		lower.apartTerms = affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	if pod.Spec.NodeName == "" && !lower.Finished {
		lower.asks = NewPod(pod)
		lower.asks.ours = lower.ours
	}
	if inexact(&pod.Spec) {
		lower.Object = pod
	}
	return lower
}
