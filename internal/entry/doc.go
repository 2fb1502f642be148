// Package entry says what the API server of a lower cluster does with a pod at the door of its namespace: LimitRanges give
// the pod defaults or refuse it, ResourceQuotas refuse it. It runs Kubernetes' own admission code on objects that it is
// given, and does no I/O.
//
// Callers pass pods as translate.LowerPod makes them, Limit before Quota, because what a quota counts includes the
// defaults. Not known here, and therefore not judged: the priority class that a lower cluster gives by default, webhooks, and an
// API server whose configuration asks for a quota where there is none (limitedResources).
package entry

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// byName returns the objects in an order that does not depend on who lists them: the same pod gets the same answer each
// time.
func byName[T metav1.Object](objects []T) []T {
	return slices.SortedFunc(slices.Values(objects), func(a, b T) int { return cmp.Compare(a.GetName(), b.GetName()) })
}
