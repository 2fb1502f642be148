package translate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/fieldpath"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// reader is a pod that reads a field in each way that there is.
func reader(path string) *corev1.Pod {
	ref := func() *corev1.ObjectFieldSelector {
		return &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}
	}
	file := func() []corev1.DownwardAPIVolumeFile {
		return []corev1.DownwardAPIVolumeFile{{Path: "f", FieldRef: ref()}, {Path: "r"}}
	}
	env := func() []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "plain", Value: "x"}, {Name: "f", ValueFrom: &corev1.EnvVarSource{FieldRef: ref()}}, {Name: "s",
			ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}}}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "shop", UID: "u1",
			Labels:      map[string]string{"app": "web", keys.Enabled: "true"},
			Annotations: map[string]string{"note": "two\nlines \"x\"", keys.Policy: "only", corev1.LastAppliedConfigAnnotation: "{}"},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "seller",
			InitContainers:     []corev1.Container{{Name: "i", Env: env()}},
			Containers:         []corev1.Container{{Name: "c", Env: env()}},
			Volumes: []corev1.Volume{
				{Name: "d", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: file()}}},
				{Name: "p", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{Secret: &corev1.SecretProjection{}}, {DownwardAPI: &corev1.DownwardAPIProjection{Items: file()}}}}}},
			},
		},
	}
}

// What a kubelet reads below, with its own code, is what one would have read above. Tessera's own annotations are the
// exception: a pod that lists its annotations sees those that users write.
func TestDownwardAPIMeansTheUpperPod(t *testing.T) {
	t.Parallel()
	for path, c := range map[string]struct{ prefix, want string }{
		"metadata.name":                                {"t-", "web"},
		"metadata.namespace":                           {"t-", "shop"},
		"metadata.uid":                                 {"", "u1"},
		"metadata.labels":                              {"", "app=\"web\"\ntessera.sh/enabled=\"true\""},
		"metadata.labels['app']":                       {"", "web"},
		"metadata.labels['tessera.sh/enabled']":        {"", "true"},
		"metadata.labels['tessera.sh/upper']":          {"", ""},
		"metadata.annotations":                         {"", "kubectl.kubernetes.io/last-applied-configuration=\"{}\"\nnote=\"two\\nlines \\\"x\\\"\""},
		"metadata.annotations['note']":                 {"", "two\nlines \"x\""},
		"metadata.annotations['tessera.sh/policy']":    {"", "only"},
		"metadata.annotations['tessera.sh/upper-uid']": {"", ""},
		"metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']": {"", "{}"},
		"metadata.annotations['tessera.sh/" + strings.Repeat("n", 60) + "']":       {"", ""},
	} {
		lower := lowered(t, reader(path), Rules{NamespacePrefix: c.prefix})
		for i, ref := range everyRef(t, lower) {
			got, err := fieldpath.ExtractFieldPathAsString(lower, ref.FieldPath)
			if err != nil || got != c.want {
				t.Errorf("%s, place %d: read below as %s: %q, %v; want %q", path, i, ref.FieldPath, got, err, c.want)
			}
		}
	}
}

func everyRef(t *testing.T, pod *corev1.Pod) []*corev1.ObjectFieldSelector {
	t.Helper()
	refs := []*corev1.ObjectFieldSelector{
		pod.Spec.InitContainers[0].Env[1].ValueFrom.FieldRef, pod.Spec.Containers[0].Env[1].ValueFrom.FieldRef,
		pod.Spec.Volumes[0].DownwardAPI.Items[0].FieldRef, pod.Spec.Volumes[1].Projected.Sources[1].DownwardAPI.Items[0].FieldRef,
	}
	for _, ref := range refs {
		if ref.APIVersion != "v1" {
			t.Errorf("API version %q", ref.APIVersion)
		}
	}
	return refs
}

// The service account is a field of the spec, which only environments can read.
func TestDownwardServiceAccount(t *testing.T) {
	t.Parallel()
	lower := lowered(t, reader("spec.serviceAccountName"), Rules{})
	for _, ref := range everyRef(t, lower) {
		if got, err := fieldpath.ExtractFieldPathAsString(lower, ref.FieldPath); err != nil || got != "seller" {
			t.Errorf("read below as %s: %q, %v", ref.FieldPath, got, err)
		}
	}
}

// What is the lower cluster's is read as it is, and what nobody reads is not written.
func TestDownwardAPIIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"spec.nodeName", "status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs", "metadata.name",
		"metadata.namespace", "metadata.labels['app']", "metadata.annotations['note']", "spec.tessera['tessera.sh/x']"} {
		upper := reader(path)
		lower := lowered(t, upper, Rules{})
		if diff := cmp.Diff(upper.Spec.Containers, lower.Spec.Containers); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(upper.Spec.Volumes, lower.Spec.Volumes); diff != "" {
			t.Error(diff)
		}
		want := map[string]string{"note": upper.Annotations["note"], keys.UpperUID: "u1", keys.UpperNamespace: "shop", keys.UpperName: "web"}
		if diff := cmp.Diff(want, lower.Annotations); diff != "" {
			t.Error(diff)
		}
	}
}

// Annotations that stand for fields follow the upper pod: virtualnode compares and brings down what LowerPod makes.
func TestDownwardLabelsFollow(t *testing.T) {
	t.Parallel()
	upper := reader("metadata.labels")
	upper.Labels["app"] = "shop"
	if got := lowered(t, upper, Rules{}).Annotations[keys.UpperLabels]; got != "app=\"shop\"\ntessera.sh/enabled=\"true\"" {
		t.Error(got)
	}
}
