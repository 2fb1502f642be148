package namespaces

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Choice says which upper namespaces take part. The webhook's namespaceSelector says the same.
type Choice struct {
	// Everywhere has all take part but those that say no; else only those that say yes do.
	Everywhere bool
}

// Takes reports whether an upper namespace, which may be nil, takes part by its own label. It is not asked about those of the control
// plane and of Tessera, whose pods admission never marks.
func (c Choice) Takes(namespace *corev1.Namespace) bool {
	if namespace == nil {
		return false
	}
	says := namespace.Labels[keys.Enabled]
	return says == "true" || c.Everywhere && says != "false"
}
