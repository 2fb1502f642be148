package namespaces

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// countPrefix is put before a kind in a quota that counts its objects.
const countPrefix = "count/"

// plenty is a limit that nobody reaches.
var plenty = resource.MustParse("1000000000")

// derived are the kinds that controllers make of others, or that are traces: they are no reason to keep a namespace.
// In a quota, events are not counted at all.
var derived = []string{"events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io"}

// countable returns the names in a quota of the kinds of objects that are stored in namespaces. unknown says why
// they cannot all be counted.
func countable(lists []*metav1.APIResourceList) (kinds []string, unknown string) {
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err.Error()
		}
		for _, r := range list.APIResources {
			name := schema.GroupResource{Group: version.Group, Resource: r.Name}.String()
			stored := slices.Contains(r.Verbs, "create") && slices.Contains(r.Verbs, "delete") && slices.Contains(r.Verbs, "list")
			if !stored || !r.Namespaced || strings.Contains(r.Name, "/") || slices.Contains(derived, name) {
				continue
			}
			if len(validation.IsQualifiedName(countPrefix+name)) > 0 {
				return nil, "objects of the kind " + name + " cannot be counted by a quota"
			}
			kinds = append(kinds, countPrefix+name)
		}
	}
	if !slices.Contains(kinds, countPrefix+"secrets") {
		return nil, "the lower API server does not tell what a namespace can hold"
	}
	slices.Sort(kinds)
	return slices.Compact(kinds), ""
}

func limits(kinds []string) corev1.ResourceList {
	hard := corev1.ResourceList{}
	for _, kind := range kinds {
		hard[corev1.ResourceName(kind)] = plenty
	}
	return hard
}

// holds reads the counts of a quota. done: every kind has been counted. left names a kind of which there are more than
// usual, "" if there is none.
func holds(quota *corev1.ResourceQuota, kinds []string, usual map[string]int64) (done bool, left string) {
	for _, kind := range kinds {
		used, ok := quota.Status.Used[corev1.ResourceName(kind)]
		if !ok {
			return false, ""
		}
		if more := used.Value() - usual[kind]; more > 0 && left == "" {
			left = fmt.Sprintf("%d %s", more, strings.TrimPrefix(kind, countPrefix))
		}
	}
	return true, left
}
