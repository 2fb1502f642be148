package node

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Brake says why something is not concluded that would end many pods at once; "" where it is.
type Brake struct {
	Orphans string // why lower pods without an upper pod are not collected
	Missing string // why upper pods without a lower pod are not failed
}

// Orphans is the condition that says so.
func Orphans(brake Brake) corev1.NodeCondition {
	switch {
	case brake.Orphans != "":
		return corev1.NodeCondition{Type: keys.OrphanBrake, Status: corev1.ConditionTrue, Reason: "TooManyOrphans", Message: brake.Orphans}
	case brake.Missing != "":
		return corev1.NodeCondition{Type: keys.OrphanBrake, Status: corev1.ConditionTrue, Reason: "TooManyMissing", Message: brake.Missing}
	}
	return corev1.NodeCondition{Type: keys.OrphanBrake, Status: corev1.ConditionFalse, Reason: "FewOrphans",
		Message: "Lower pods without an upper pod are collected after the grace"}
}
