package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// LowerNamespace is the name below of an upper namespace. A name that would be too long is cut and ends in a hash of the
// whole, so that no two upper namespaces share a lower one.
func (r Rules) LowerNamespace(upper string) string {
	return fitting(r.NamespacePrefix+upper, validation.DNS1123LabelMaxLength)
}

// hashLength is how many hexadecimal digits of a hash stand for what is cut off: too many to look for a second name.
const hashLength = 16

// fitting is the name if it has at most limit characters (more than hashLength), else its beginning and a hash of it.
func fitting(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:limit-hashLength-1], "-._") + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

// translateNamespaces makes the terms that name namespaces name the lower ones. A selector of namespaces goes by labels:
// kubernetes.io/metadata.name is the name, the others are those that the lower namespaces carry.
func (r Rules) translateNamespaces(affinity *corev1.Affinity) {
	for _, term := range podAffinityTerms(affinity) {
		r.translateNames(term.Namespaces)
		if term.NamespaceSelector == nil {
			continue
		}
		if name, ok := term.NamespaceSelector.MatchLabels[corev1.LabelMetadataName]; ok {
			term.NamespaceSelector.MatchLabels[corev1.LabelMetadataName] = r.LowerNamespace(name)
		}
		for _, expression := range term.NamespaceSelector.MatchExpressions {
			if expression.Key == corev1.LabelMetadataName {
				r.translateNames(expression.Values)
			}
		}
	}
}

func (r Rules) translateNames(names []string) {
	for i := range names {
		names[i] = r.LowerNamespace(names[i])
	}
}
