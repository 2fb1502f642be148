package translate

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEveryFieldOfObjects gives every field of a ConfigMap and a Secret a value, and compares what becomes of it with
// testdata/objects.txt: a field that is new in a version of Kubernetes fails until somebody decides.
func TestEveryFieldOfObjects(t *testing.T) {
	t.Parallel()
	decided := map[string]string{}
	text, err := os.ReadFile("testdata/objects.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if columns := strings.Split(line, "|"); len(columns) > 1 && !strings.HasPrefix(line, "#") {
			decided[strings.TrimSpace(columns[0])] = strings.TrimSpace(columns[1])
			if len(columns) < 3 && strings.TrimSpace(columns[1]) != "kept" {
				t.Errorf("%s: say why, in a third column", columns[0])
			}
		}
	}
	used := map[string]bool{}
	check := func(above, below any, kind string) {
		from, to := reflect.ValueOf(above).Elem(), reflect.ValueOf(below).Elem()
		for i := range from.NumField() {
			name, _, _ := strings.Cut(from.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || name == "metadata" {
				continue
			}
			key := kind + "." + name
			used[key] = true
			kept, dropped := reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()), to.Field(i).IsZero()
			if name == "selfLink" { // Deprecated, and never set.
				continue
			}
			if from.Field(i).IsZero() {
				t.Errorf("%s has no value in the test", key)
			}
			if want := decided[key]; (want == "kept") != kept || (want == "dropped") != dropped || want == "" || want == "ours" && (kept || dropped) {
				t.Errorf("%s: %q is decided, it is kept: %t, dropped: %t", key, want, kept, dropped)
			}
		}
	}
	meta := metav1.ObjectMeta{
		Name: "n", GenerateName: "g", Namespace: "ns", UID: "u", ResourceVersion: "1", Generation: 1, CreationTimestamp: metav1.Now(),
		DeletionTimestamp: new(metav1.Now()), DeletionGracePeriodSeconds: new(int64(1)), Labels: map[string]string{"a": "b"},
		Annotations: map[string]string{"a": "b"}, Finalizers: []string{"f"}, OwnerReferences: []metav1.OwnerReference{{Name: "o"}},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
	bytes := map[string][]byte{"b": {0, 255}}
	target := Target{Identity: "us", VirtualNode: "v", Rules: Rules{NamespacePrefix: "t-"}}
	cm := &corev1.ConfigMap{ObjectMeta: meta, Immutable: new(true), Data: map[string]string{"a": "b"}, BinaryData: bytes}
	lowerMap := LowerConfigMap(cm, target)
	check(cm, lowerMap, "ConfigMap")
	check(&cm.ObjectMeta, &lowerMap.ObjectMeta, "ObjectMeta")
	secret := &corev1.Secret{
		ObjectMeta: meta, Immutable: new(true), Data: bytes, StringData: map[string]string{"a": "b"}, Type: corev1.SecretTypeTLS,
	}
	lowerSecret, err := LowerSecret(secret, target)
	if err != nil {
		t.Fatal(err)
	}
	check(secret, lowerSecret, "Secret")
	check(&secret.ObjectMeta, &lowerSecret.ObjectMeta, "ObjectMeta")
	for key := range decided {
		if !used[key] {
			t.Errorf("%s: there is no such field: take the line out", key)
		}
	}
}

func TestAccountTokensStayAbove(t *testing.T) {
	t.Parallel()
	_, err := LowerSecret(&corev1.Secret{Type: corev1.SecretTypeServiceAccountToken}, Target{})
	if !errors.Is(err, ErrAccountToken) {
		t.Errorf("got %v", err)
	}
}
