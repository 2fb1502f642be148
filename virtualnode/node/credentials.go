package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/registry"
)

// Credentials is the condition that says whether the token that is sent to a cluster ends before long; none where it does not say.
func Credentials(life registry.Life, now time.Time) []corev1.NodeCondition {
	if life.Ends.IsZero() {
		return nil
	}
	c := corev1.NodeCondition{
		Type: keys.CredentialsEnding, Status: corev1.ConditionFalse, Reason: "TokenGood",
		Message: "The token is good until " + life.Ends.UTC().Format(time.RFC3339),
	}
	if life.Ending(now) {
		c.Status, c.Reason = corev1.ConditionTrue, "TokenEnds"
		c.Message += " and was not renewed: put a new one into the kubeconfig, which is sent from then on"
	}
	return []corev1.NodeCondition{c}
}
