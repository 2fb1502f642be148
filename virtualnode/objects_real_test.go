package virtualnode_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
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
