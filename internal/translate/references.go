package translate

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// The kinds of objects that pods bring along.
const (
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
)

// Reference names an object in a pod's own namespace.
type Reference struct{ Kind, Name string }

// References are the ConfigMaps and Secrets of the upper cluster that the lower pod of an upper one names. RootCACopy stands for the
// upper RootCA.
func (t Target) References(upper *corev1.Pod) []Reference {
	found := References(&upper.Spec)
	root := Reference{KindConfigMap, RootCA}
	if len(t.AccountTokens(upper)) == 0 || !slices.ContainsFunc(configMapNames(&upper.Spec), func(n *string) bool { return *n == RootCA }) {
		return found
	}
	found = slices.DeleteFunc(found, func(r Reference) bool { return r == root })
	return append(found, Reference{KindConfigMap, RootCACopy})
}

// References are the ConfigMaps and Secrets that a pod names, each once, sorted: in volumes, in the environment of its containers
// and to pull its images. An object that the pod can do without is among them, what admission adds for a token is not.
func References(spec *corev1.PodSpec) []Reference {
	var found references
	for i := range spec.Volumes {
		found.volume(&spec.Volumes[i])
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			found.environment(containers[i].Env, containers[i].EnvFrom)
		}
	}
	for i := range spec.EphemeralContainers {
		found.environment(spec.EphemeralContainers[i].Env, spec.EphemeralContainers[i].EnvFrom)
	}
	for _, secret := range spec.ImagePullSecrets {
		found.add(KindSecret, secret.Name)
	}
	slices.SortFunc(found, func(a, b Reference) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return slices.Compact(found)
}

type references []Reference

func (r *references) add(kind, name string) {
	if name != "" {
		*r = append(*r, Reference{kind, name})
	}
}

// secret adds a Secret that a volume plugin is given.
func (r *references) secret(ref *corev1.LocalObjectReference) {
	if ref != nil {
		r.add(KindSecret, ref.Name)
	}
}

func (r *references) volume(v *corev1.Volume) {
	if v.ConfigMap != nil {
		r.add(KindConfigMap, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		r.add(KindSecret, v.Secret.SecretName)
	}
	if v.Projected != nil {
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil && (!injected(v) || source.ConfigMap.Name != RootCA) {
				r.add(KindConfigMap, source.ConfigMap.Name)
			}
			if source.Secret != nil {
				r.add(KindSecret, source.Secret.Name)
			}
		}
	}
	r.plugins(&v.VolumeSource)
}

// plugins adds what the plugins of network volumes are given.
func (r *references) plugins(v *corev1.VolumeSource) {
	if v.AzureFile != nil {
		r.add(KindSecret, v.AzureFile.SecretName)
	}
	if v.CephFS != nil {
		r.secret(v.CephFS.SecretRef)
	}
	if v.Cinder != nil {
		r.secret(v.Cinder.SecretRef)
	}
	if v.CSI != nil {
		r.secret(v.CSI.NodePublishSecretRef)
	}
	if v.FlexVolume != nil {
		r.secret(v.FlexVolume.SecretRef)
	}
	if v.ISCSI != nil {
		r.secret(v.ISCSI.SecretRef)
	}
	if v.RBD != nil {
		r.secret(v.RBD.SecretRef)
	}
	if v.ScaleIO != nil {
		r.secret(v.ScaleIO.SecretRef)
	}
	if v.StorageOS != nil {
		r.secret(v.StorageOS.SecretRef)
	}
}

func (r *references) environment(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for _, variable := range env {
		source := variable.ValueFrom
		if source == nil {
			continue
		}
		if source.ConfigMapKeyRef != nil {
			r.add(KindConfigMap, source.ConfigMapKeyRef.Name)
		}
		if source.SecretKeyRef != nil {
			r.add(KindSecret, source.SecretKeyRef.Name)
		}
	}
	for _, source := range from {
		if source.ConfigMapRef != nil {
			r.add(KindConfigMap, source.ConfigMapRef.Name)
		}
		if source.SecretRef != nil {
			r.add(KindSecret, source.SecretRef.Name)
		}
	}
}

// configMapNames are the places in a pod that name a ConfigMap.
func configMapNames(spec *corev1.PodSpec) (names []*string) {
	for i := range spec.Volumes {
		if source := spec.Volumes[i].ConfigMap; source != nil {
			names = append(names, &source.Name)
		}
		if projected := spec.Volumes[i].Projected; projected != nil {
			for j := range projected.Sources {
				if source := projected.Sources[j].ConfigMap; source != nil {
					names = append(names, &source.Name)
				}
			}
		}
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for j := range containers[i].Env {
				if from := containers[i].Env[j].ValueFrom; from != nil && from.ConfigMapKeyRef != nil {
					names = append(names, &from.ConfigMapKeyRef.Name)
				}
			}
			for j := range containers[i].EnvFrom {
				if from := containers[i].EnvFrom[j].ConfigMapRef; from != nil {
					names = append(names, &from.Name)
				}
			}
		}
	}
	return names
}
