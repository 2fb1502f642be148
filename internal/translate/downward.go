package translate

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/kubernetes/pkg/fieldpath"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// keepUpperFields makes the downward API of a lower pod say of the upper one what would be wrong below: its namespace,
// UID, labels, annotations and service account are read from annotations, which are written only where they are read.
// Node and addresses are those of the lower cluster: that is where the pod is.
//
// The annotations follow the upper pod like all others, and files in volumes follow them.
func keepUpperFields(upper, lower *corev1.Pod) {
	for _, ref := range fieldRefs(&lower.Spec) {
		if annotation, text := upperField(ref.FieldPath, upper, lower); annotation != "" {
			lower.Annotations[annotation] = text
			ref.FieldPath = "metadata.annotations['" + annotation + "']"
		}
	}
}

// upperField returns the annotation that a field is read from below and what it says; "" for a field that can be read
// as it is.
func upperField(path string, upper, lower *corev1.Pod) (annotation, text string) {
	if path, key, ok := fieldpath.SplitMaybeSubscriptedPath(path); ok {
		return upperEntry(path, key, upper)
	}
	switch path {
	case "metadata.uid":
		return keys.UpperUID, string(upper.UID)
	case "metadata.namespace":
		if upper.Namespace != lower.Namespace {
			return keys.UpperNamespace, upper.Namespace
		}
	case "metadata.labels":
		return keys.UpperLabels, fieldpath.FormatMap(upper.Labels)
	case "metadata.annotations":
		return keys.UpperAnnotations, fieldpath.FormatMap(withoutOurs(upper.Annotations))
	case "spec.serviceAccountName":
		return keys.UpperServiceAccount, upper.Spec.ServiceAccountName
	}
	return "", ""
}

// upperEntry is upperField for one label or annotation. Keys that are dropped or added below mean the upper pod's.
func upperEntry(path, key string, upper *corev1.Pod) (annotation, text string) {
	if !above(key) && key != corev1.LastAppliedConfigAnnotation {
		return "", ""
	}
	switch path {
	case "metadata.labels":
		return entryKey(keys.UpperLabel, key), upper.Labels[key]
	case "metadata.annotations":
		return entryKey(keys.UpperAnnotation, key), upper.Annotations[key]
	default:
		return "", ""
	}
}

// entryKey is the annotation that stands for a label or annotation of the upper pod.
func entryKey(prefix, key string) string {
	name := strings.TrimPrefix(prefix, keys.Domain) + strings.ReplaceAll(key, "/", "_")
	return keys.Domain + fitting(name, validation.DNS1123LabelMaxLength) // Names of keys have the same limit as labels of DNS.
}

// withoutOurs are the annotations that users write: ours change with every placement, and say nothing to them.
func withoutOurs(annotations map[string]string) map[string]string {
	theirs := maps.Clone(annotations)
	maps.DeleteFunc(theirs, func(key, _ string) bool { return above(key) })
	return theirs
}

// fieldRefs returns every reference to a field of the pod, in environments and in volumes.
func fieldRefs(spec *corev1.PodSpec) []*corev1.ObjectFieldSelector {
	var refs []*corev1.ObjectFieldSelector
	take := func(ref *corev1.ObjectFieldSelector) {
		if ref != nil {
			refs = append(refs, ref)
		}
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, env := range containers[i].Env {
				if env.ValueFrom != nil {
					take(env.ValueFrom.FieldRef)
				}
			}
		}
	}
	for i := range spec.Volumes {
		for _, file := range downwardFiles(&spec.Volumes[i]) {
			take(file.FieldRef)
		}
	}
	return refs
}

// downwardFiles are the files of a volume that the downward API fills.
func downwardFiles(volume *corev1.Volume) []corev1.DownwardAPIVolumeFile {
	var files []corev1.DownwardAPIVolumeFile
	if volume.DownwardAPI != nil {
		files = append(files, volume.DownwardAPI.Items...)
	}
	if volume.Projected != nil {
		for _, source := range volume.Projected.Sources {
			if source.DownwardAPI != nil {
				files = append(files, source.DownwardAPI.Items...)
			}
		}
	}
	return files
}
