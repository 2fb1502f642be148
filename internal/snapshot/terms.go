package snapshot

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// tenant is what other pods see of a pod on a node.
type tenant struct {
	namespace   string
	labels      labels.Set
	via         string // the value of the label keys.VirtualNode, if it is not that in labels
	terminating bool
	ports       []port
	// apart are its required anti-affinity terms: they keep others away from it, too.
	apart []term
	// draws are the terms by which it draws others to where it is, or wants them elsewhere, see drawsOf.
	draws []term
	// ours: it is one of our upper cluster's.
	ours bool
}

// Has, Get and Lookup make a selector match it.
func (t *tenant) Has(label string) bool {
	_, has := t.Lookup(label)
	return has
}

// Get is the value of a label, "" if it is not there.
func (t *tenant) Get(label string) string {
	value, _ := t.Lookup(label)
	return value
}

// Lookup is the value of a label, and whether it is there.
func (t *tenant) Lookup(label string) (value string, exists bool) {
	if t.via != "" && label == keys.VirtualNode {
		return t.via, true
	}
	value, exists = t.labels[label]
	return value, exists
}

func newTenant(pod *corev1.Pod) tenant {
	t := tenant{
		namespace: pod.Namespace, labels: pod.Labels, terminating: pod.DeletionTimestamp != nil, ports: hostPorts(&pod.Spec), draws: drawsOf(pod),
	}
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.PodAntiAffinity != nil {
		t.apart, _ = newTerms(pod.Namespace, affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	return t
}

// term is a pod affinity or anti-affinity term: which pods it means, and within which domain of nodes.
type term struct {
	key        string // of the topology
	namespaces []string
	among      labels.Selector // namespaces by their labels, beside those named
	pods       labels.Selector
	id         string // equal for equal terms; "" where namespaces are selected by label
	weight     int64  // of one that is preferred
	above      bool   // the topology is that of virtual nodes: a whole cluster is in one domain
}

// newTerms reads the terms of a pod; a term without namespaces means the pod's own. ok is false where a selector cannot
// be read, which no API server lets through.
func newTerms(namespace string, from []corev1.PodAffinityTerm) (terms []term, ok bool) {
	for _, t := range from {
		pods, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
		if err != nil {
			return nil, false
		}
		among, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		if err != nil {
			return nil, false
		}
		read := term{key: t.TopologyKey, namespaces: slices.Sorted(slices.Values(t.Namespaces)), among: among, pods: pods}
		if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
			read.namespaces = []string{namespace}
		}
		if t.NamespaceSelector == nil {
			read.id = fmt.Sprintf("%q %v %t", read.namespaces, pods, pods.Empty()) // No selector and an empty one print alike.
		}
		terms = append(terms, read)
	}
	return terms, true
}

// means reports whether the term speaks of a pod. spaces has the labels of the namespaces that exist.
func (t *term) means(pod *tenant, spaces Namespaces) bool {
	if !slices.Contains(t.namespaces, pod.namespace) && !t.selects(pod.namespace, spaces) {
		return false
	}
	return t.pods.Matches(pod)
}

// asked is means for a term of the pod that asks.
func (t *term) asked(pod *tenant, spaces Namespaces, by Version) bool {
	return t.means(pod, spaces) || by.everywhere(t.among) && t.pods.Matches(pod)
}

func (t *term) selects(namespace string, spaces Namespaces) bool {
	if t.among.Empty() {
		return true
	}
	set, known := spaces[namespace]
	return known && t.among.Matches(set)
}

// Namespaces has the labels of a cluster's namespaces by name.
type Namespaces map[string]labels.Set
