package oracle

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"
)

// kubernetes is the version whose scheduler fit agrees with where a lower cluster's own is newer, or not known.
var kubernetes = version.MajorMinor(1, 37)

// Version is that of the kube-scheduler of a lower cluster, which has the last word on each pod: where two versions differ, a
// verdict follows it. The zero value is the newest version that fit knows. Every difference is a method here, named after what
// the older one does; the comment says what, and until when.
type Version struct {
	text   string // as it was told
	number *version.Version
}

// ParseVersion reads a version as an API server tells it, such as "v1.36.3" or "v1.35.2-gke.100".
func ParseVersion(text string) (Version, error) {
	number, err := version.ParseGeneric(text)
	if err != nil {
		return Version{}, fmt.Errorf("reading the version of a lower cluster: %w", err)
	}
	return Version{text, number}, nil
}

// String is the version as it was told, "" for the zero value.
func (v Version) String() string { return v.text }

// Known reports whether it is one whose API objects this program knows all fields of.
func (v Version) Known() bool {
	return v.number != nil && v.number.Major() == 1 && v.before(kubernetes.Minor()+1) // A build of no release says 0.0.
}

func (v Version) before(minor uint) bool {
	return v.number != nil && v.number.LessThan(version.MajorMinor(1, minor))
}

// asksSelectorAgain: before 1.37 InterPodAffinity looks up the namespaces that a term of the asking pod selects and then, as it
// switches the selector off on a copy alone, asks the selector once more with no labels at all. One that takes a namespace
// without labels (NotIn, DoesNotExist) so means every namespace. Terms of pods that are there already are read as written.
func (v Version) asksSelectorAgain() bool { return v.before(37) }

// everywhere reports whether a namespace selector of the asking pod means every namespace to this version.
func (v Version) everywhere(selector labels.Selector) bool {
	return v.asksSelectorAgain() && selector.Matches(labels.Set(nil))
}

// Asking returns the pod as the newest version has to be asked about it, to answer as this one would: the pod itself where
// both mean the same.
func (v Version) Asking(pod *corev1.Pod) *corev1.Pod {
	if !v.asksSelectorAgain() || pod.Spec.Affinity == nil {
		return pod
	}
	pod = pod.DeepCopy()
	if affinity := pod.Spec.Affinity.PodAffinity; affinity != nil {
		v.widen(affinity.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	if affinity := pod.Spec.Affinity.PodAntiAffinity; affinity != nil {
		v.widen(affinity.RequiredDuringSchedulingIgnoredDuringExecution)
	}
	return pod
}

// widen gives terms the selector of every namespace where this version reads theirs so.
func (v Version) widen(terms []corev1.PodAffinityTerm) {
	for i := range terms {
		selector, err := metav1.LabelSelectorAsSelector(terms[i].NamespaceSelector)
		if err == nil && v.everywhere(selector) {
			terms[i].NamespaceSelector = &metav1.LabelSelector{}
		}
	}
}
