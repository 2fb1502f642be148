package node

import (
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ServicesBelow are what the condition tessera.sh/ServicesMirrored is made from.
type ServicesBelow struct {
	// Forbidden says what may not be read, so that no Service comes; "" if all may.
	Forbidden string
	// Prefix is put before the names of namespaces below.
	Prefix string
}

// Services is that condition. A name with a namespace in it is another one below where namespaces have a prefix there.
func Services(s ServicesBelow) corev1.NodeCondition {
	c := corev1.NodeCondition{
		Type: keys.ServicesMirrored, Status: corev1.ConditionTrue, Reason: "Mirrored",
		Message: "Services are found below by the names they have above",
	}
	switch {
	case s.Forbidden != "":
		c.Status, c.Reason = corev1.ConditionFalse, "Forbidden"
		c.Message = s.Forbidden + ": apply the roles of manifests anew, or set services: none"
	case s.Prefix != "":
		c.Status, c.Reason = corev1.ConditionFalse, "NamespacePrefix"
		c.Message = "Names with a namespace, such as db.shop, are not found below: there it is db." + s.Prefix + "shop"
	}
	return c
}

// PoliciesBelow are what the condition tessera.sh/NetworkPoliciesMirrored is made from.
type PoliciesBelow struct {
	// Forbidden says what may not be read, so that no policy comes; "" if all may.
	Forbidden string
	// NotTheSame says which policy cannot mean the same below, and why; "" if all do.
	NotTheSame string
}

// Policies is that condition.
func Policies(p PoliciesBelow) corev1.NodeCondition {
	c := corev1.NodeCondition{
		Type: keys.PoliciesMirrored, Status: corev1.ConditionTrue, Reason: "Mirrored", Message: "NetworkPolicies are below and mean the same",
	}
	switch {
	case p.Forbidden != "":
		c.Status, c.Reason = corev1.ConditionFalse, "Forbidden"
		c.Message = p.Forbidden + ", and pods run without them: apply the roles of manifests anew, or set networkPolicies: none"
	case p.NotTheSame != "":
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "NotTheSame", "Left out of a NetworkPolicy: "+p.NotTheSame
	}
	return c
}

// Usage is the condition tessera.sh/PodMetrics. err says why it is not known what pods use, nil if it is.
func Usage(err error) corev1.NodeCondition {
	c := corev1.NodeCondition{
		Type: keys.PodMetrics, Status: corev1.ConditionTrue, Reason: "MetricsRead",
		Message: "What pods use is read from the metrics API of the lower cluster",
	}
	if err == nil {
		return c
	}
	c.Status, c.Reason = corev1.ConditionFalse, "MetricsFail"
	c.Message = "What pods use is not known, so kubectl top and autoscalers do not see it: "
	switch {
	case apierrors.IsNotFound(err):
		c.Reason = "NoMetricsAPI"
		c.Message += "the lower cluster has no metrics API, which metrics-server would give it"
	case apierrors.IsForbidden(err):
		c.Reason = "Forbidden"
		c.Message += "apply the roles of manifests/lower anew: " + plain(err)
	default:
		c.Message += plain(err)
	}
	return c
}
