package namespaces

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Rules are what the configuration says about namespaces below.
type Rules struct {
	// PodSecurity is the least level that is enforced in namespaces we make: "", baseline or restricted.
	PodSecurity string
	// Labels are the keys of labels that they take over from the upper ones.
	Labels []string
	// Open are the namespaces not made by us that pods may go to nevertheless; "*" is all.
	Open []string
}

// The labels of Pod Security, by which the API server judges the pods of a namespace.
const (
	podSecurity    = "pod-security.kubernetes.io/"
	enforce        = podSecurity + "enforce"
	enforceVersion = podSecurity + "enforce-version"
)

var podSecurityLabels = []string{
	enforce, enforceVersion, podSecurity + "audit", podSecurity + "audit-version", podSecurity + "warn", podSecurity + "warn-version",
}

// levels are those of Pod Security, from the weakest to the strictest.
var levels = []string{"privileged", "baseline", "restricted"}

// strictness is the place of a level among levels. None is the weakest; one that nobody knows is taken for the
// strictest, as the API server does.
func strictness(level string) int {
	if level == "" {
		return 0
	}
	if at := slices.Index(levels, level); at >= 0 {
		return at
	}
	return len(levels) - 1
}

// below returns the lower namespace as it is to be: present is nil where there is none yet. Labels and annotations
// that are not Tessera's stay as they are.
//
// Several virtual nodes may share the namespace and be configured differently. So that they do not undo each other's
// writes, the keys that are taken over and the least level are written down on it and only ever grow: whoever looks
// comes to the same result.
func below(upper, present *corev1.Namespace, name, identity string, rules Rules) *corev1.Namespace {
	lower := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if present != nil {
		lower = present.DeepCopy()
	}
	if lower.Labels == nil {
		lower.Labels = map[string]string{}
	}
	if lower.Annotations == nil {
		lower.Annotations = map[string]string{}
	}
	taken := takenOver(rules.Labels, lower.Annotations[keys.NamespaceLabels])
	for _, key := range append(taken, podSecurityLabels...) {
		if value, ok := upper.Labels[key]; ok {
			lower.Labels[key] = value
		} else {
			delete(lower.Labels, key)
		}
	}
	setLevel(lower, rules.PodSecurity)
	setOrDelete(lower.Annotations, keys.NamespaceLabels, strings.Join(taken, ","))
	lower.Labels[keys.Upper] = identity
	lower.Annotations[keys.UpperName], lower.Annotations[keys.UpperUID] = upper.Name, string(upper.UID)
	return lower
}

// takenOver are the keys of labels to be taken over: those of the configuration and those written down before.
// Those that have a meaning of their own are none of them.
func takenOver(configured []string, noted string) []string {
	taken := append(slices.Clone(configured), strings.Split(noted, ",")...)
	taken = slices.DeleteFunc(taken, func(key string) bool {
		return key == "" || key == corev1.LabelMetadataName || strings.HasPrefix(key, keys.Domain) || strings.HasPrefix(key, podSecurity)
	})
	slices.Sort(taken)
	return slices.Compact(taken)
}

// setLevel raises the level that is enforced to least, and never lowers it. Where nothing is to be enforced there is
// no label: what the lower cluster itself demands of namespaces without one then holds.
func setLevel(lower *corev1.Namespace, least string) {
	floor := max(strictness(lower.Annotations[keys.PodSecurity]), strictness(least))
	asked := strictness(lower.Labels[enforce])
	if floor > asked {
		delete(lower.Labels, enforceVersion) // It speaks of another level.
	}
	level := max(floor, asked)
	setOrDelete(lower.Annotations, keys.PodSecurity, nameOf(floor))
	setOrDelete(lower.Labels, enforce, nameOf(level))
	if level == 0 {
		delete(lower.Labels, enforceVersion)
	}
}

func nameOf(level int) string {
	if level == 0 {
		return ""
	}
	return levels[level]
}

func setOrDelete(set map[string]string, key, value string) {
	if value == "" {
		delete(set, key)
		return
	}
	set[key] = value
}

// same reports whether two namespaces have the same labels and annotations.
func same(a, b *corev1.Namespace) bool {
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

// change is the merge patch from one state of labels or annotations to another; nil deletes a key.
func change(from, to map[string]string) map[string]*string {
	patch := map[string]*string{}
	for key, value := range to {
		if before, ok := from[key]; !ok || before != value {
			patch[key] = &value
		}
	}
	for key := range from {
		if _, ok := to[key]; !ok {
			patch[key] = nil
		}
	}
	return patch
}
