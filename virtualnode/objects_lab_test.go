package virtualnode_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// naming has a pod name a ConfigMap and a Secret in its environment, another Secret in a volume, and one to pull its image with.
func naming(configMap, secret, mounted, pull string) func(*corev1.Pod) {
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	return func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local(configMap)}}}
		main.Env = []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(secret), Key: "x"},
		}}}
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "mounted", MountPath: "/mounted"})
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "mounted", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: mounted},
		}})
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{local(pull)}
	}
}

func (w *world) configMap(name, x string) *corev1.ConfigMap {
	w.Helper()
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name, Labels: map[string]string{"app.kubernetes.io/instance": "shop"}},
		Data:       map[string]string{"x": x}, BinaryData: map[string][]byte{"binary": {0, 255}},
	}
	created, err := w.upper.CoreV1().ConfigMaps(w.ns).Create(w.Context(), object, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

func (w *world) secret(name, x string, kind corev1.SecretType) *corev1.Secret {
	w.Helper()
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name}, Type: kind, Data: map[string][]byte{"x": []byte(x)},
	}
	if kind == corev1.SecretTypeDockerConfigJson {
		object.Data = map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)}
	}
	created, err := w.upper.CoreV1().Secrets(w.ns).Create(w.Context(), object, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

// secretBelow waits until a Secret of lower-1 has that content; "" is none.
func (w *world) secretBelow(name, x string) *corev1.Secret {
	w.Helper()
	var found *corev1.Secret
	w.eventually(func() (err error) {
		found, err = w.lower(1).CoreV1().Secrets(w.ns).Get(w.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && x == "":
			return nil
		case err != nil:
			return err
		case string(found.Data["x"]) != x:
			return fmt.Errorf("Secret %s is %q below, want %q", name, found.Data["x"], x)
		}
		return nil
	})
	return found
}

// What a pod names is below before the pod is, follows what is above, and goes with the last pod that needs it.
func TestObjectsComeAlong(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.configMap("config", "1")
	password := w.secret("password", "old", "")
	w.secret("mounted", "file", "")
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	w.secret("unused", "nobody names it", "")
	w.create(w.pod("web", 1, naming("config", "password", "mounted", "pull")))
	w.create(w.pod("web2", 1, naming("config", "password", "late", "pull")))
	w.becomes(w.upper, "web", "Running", running)
	pod := w.get(w.lower(1), "web")
	below, err := w.lower(1).CoreV1().ConfigMaps(w.ns).Get(t.Context(), "config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if below.Data["x"] != "1" || len(below.BinaryData["binary"]) != 2 || below.Labels["app.kubernetes.io/instance"] != "" ||
		pod.CreationTimestamp.Before(&below.CreationTimestamp) {
		t.Errorf("the ConfigMap below is %+v, made at %s; the pod at %s", below, below.CreationTimestamp, pod.CreationTimestamp)
	}
	if pull := w.secretBelow("pull", ""); pull.Type != corev1.SecretTypeDockerConfigJson {
		t.Errorf("the Secret to pull with is of type %s", pull.Type)
	}
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Get(t.Context(), "unused", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what nobody names is below: %v", err)
	}

	password.Data["x"] = []byte("new")
	begin := time.Now()
	if _, err := w.upper.CoreV1().Secrets(w.ns).Update(t.Context(), password, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.secretBelow("password", "new")
	t.Logf("a change was below after %s", time.Since(begin).Round(time.Millisecond))
	w.secret("late", "came later", "")
	w.secretBelow("late", "came later")
	if err := w.lower(1).CoreV1().Secrets(w.ns).Delete(t.Context(), "late", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.secretBelow("late", "came later")

	process := w.lab.Process(lab.PartVirtualNode)
	process.Kill()
	for _, name := range []string{"web", "web2"} {
		if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"password", "mounted", "pull"} {
		w.secretBelow(name, "")
	}
}

// A name that is taken below is a conflict of the pod's, told and to be moved; the token of an account stays above, and the pod is
// told.
func TestObjectsThatDoNotCome(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.create(w.pod("first", 1)) // It makes the namespace.
	w.becomes(w.upper, "first", "Running", running)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "taken"}, Data: map[string][]byte{"x": []byte("theirs")}}
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.configMap("config", "1")
	w.secret("taken", "ours", "")
	w.secret("mounted", "1", "")
	w.secret("pull", "", corev1.SecretTypeDockerConfigJson)
	w.create(w.pod("web", 1, naming("config", "taken", "mounted", "pull")))
	w.becomes(w.upper, "web", "told of the conflict", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.NameConflict) && strings.Contains(c.Message, "Secret taken")
	})
	if err := w.lower(1).CoreV1().Secrets(w.ns).Delete(t.Context(), "taken", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(w.upper, "web", "Running", running)
	w.secretBelow("taken", "ours")

	account := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.ns, Name: "account", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
	if _, err := w.upper.CoreV1().Secrets(w.ns).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("reader", 1, naming("config", "account", "mounted", "pull")))
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=reader,reason=NotBrought"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("no event tells that the token of an account is not brought along")
		}
		return err
	})
	if _, err := w.lower(1).CoreV1().Secrets(w.ns).Get(t.Context(), "account", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the token of an account is below: %v", err)
	}
}
