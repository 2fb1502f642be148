package virtualnode_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet gives containers what they name, and waits for what comes later.
func TestRealObjects(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.configMap("config", "from above")
	w.secret("password", "secret", "")
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	w.create(w.pod("environment", 1, never, doing("append=/note:$(x) $(PASSWORD)", "report=/note", "exit=0"),
		naming("config", "password", "password", "pull")))
	w.create(w.pod("volume", 1, never, doing("report=/mounted/x", "exit=0"), naming("config", "password", "late", "pull")))
	succeeded := func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded }
	pod := w.becomes(w.upper, "environment", "Succeeded", succeeded)
	if end := ended(pod); end == nil || end.Message != "from above secret\n" {
		t.Errorf("it ended as %+v", end)
	}
	w.secret("late", "came later", "")
	w.patience *= 3 // A kubelet tries again after up to two minutes.
	pod = w.becomes(w.upper, "volume", "Succeeded", succeeded)
	if end := ended(pod); end == nil || end.Message != "came later" {
		t.Errorf("it ended as %+v", end)
	}
}

// A process sees in its file what became of the ConfigMap and the Secret above.
func TestRealObjectsChange(t *testing.T) {
	w := newRealWorld(t)
	t.Parallel()
	w.patience *= 3 // A kubelet looks at its volumes every minute, or a little more.
	config, secret := w.configMap("config", "before"), w.secret("secret", "before", "")
	for name, source := range map[string]corev1.VolumeSource{
		"config": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}},
		"secret": {Secret: &corev1.SecretVolumeSource{SecretName: "secret"}},
	} {
		w.create(w.pod(name, 1, never, doing("changes=/mounted/x", "report=/mounted/x", "exit=0"), func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "mounted", VolumeSource: source}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mounted", MountPath: "/mounted"}}
		}))
		w.becomes(w.upper, name, "Running", running)
	}
	config.Data["x"], secret.Data["x"] = "after", []byte("after")
	if _, err := w.upper.CoreV1().ConfigMaps(w.ns).Update(t.Context(), config, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.upper.CoreV1().Secrets(w.ns).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config", "secret"} {
		pod := w.becomes(w.upper, name, "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		if end := ended(pod); end == nil || end.Message != "after" {
			t.Errorf("%s ended as %+v", name, end)
		}
	}
}
