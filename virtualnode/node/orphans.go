package node

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Orphans is the condition that says whether lower pods without an upper pod are collected; brake says why not, "" if
// they are.
func Orphans(brake string) corev1.NodeCondition {
	if brake == "" {
		return corev1.NodeCondition{Type: keys.OrphanBrake, Status: corev1.ConditionFalse, Reason: "FewOrphans",
			Message: "Lower pods without an upper pod are collected after the grace"}
	}
	return corev1.NodeCondition{Type: keys.OrphanBrake, Status: corev1.ConditionTrue, Reason: "TooManyOrphans", Message: brake}
}
