package translate

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// notObjects are fields of a PodSpec that speak of ConfigMaps or Secrets and name none.
var notObjects = []string{"optional", "items", "defaultMode", "defaultUser", "key", "path", "mode", "user"}

// speaks is the path of a field in which the name of a ConfigMap or Secret may stand.
var speaks = regexp.MustCompile(`(?i)secret|configmap`)

// naming fills a value with one element for every list and pointer, and gives each field in which the name of an object may stand
// a name of its own. It returns the names by kind.
type naming struct{ want []Reference }

func (n *naming) fill(v reflect.Value, path string, seen []reflect.Type) {
	switch v.Kind() {
	case reflect.Pointer:
		if !slices.Contains(seen, v.Type()) {
			v.Set(reflect.New(v.Type().Elem()))
			n.fill(v.Elem(), path, append(seen, v.Type()))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 && !slices.Contains(seen, v.Type()) {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			n.fill(v.Index(0), path+"[]", append(seen, v.Type()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() || strings.HasPrefix(v.Type().PkgPath(), "k8s.io/apimachinery") {
				continue
			}
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			where := path
			if name != "" {
				where += "." + name
			}
			n.fill(v.Field(i), where, seen)
		}
	case reflect.String:
		last := path[strings.LastIndex(path, ".")+1:]
		if !speaks.MatchString(path) || slices.Contains(notObjects, last) {
			return
		}
		kind := KindSecret
		if strings.Contains(strings.ToLower(path), "configmap") {
			kind = KindConfigMap
		}
		object := fmt.Sprintf("object-%03d-%s", len(n.want), path)
		v.SetString(object)
		n.want = append(n.want, Reference{kind, object})
	}
}

// elsewhere are fields that look as if they named an object of the pod's namespace, and why they do not.
var elsewhere = map[string]string{
	".volumes[].cephfs.secretFile": "a file on the lower node",
}

// Whatever field of a PodSpec speaks of a Secret or a ConfigMap is among the references, or stands in elsewhere with a reason: a new
// version of Kubernetes with a new one fails here until somebody decides.
func TestEveryReferenceIsFound(t *testing.T) {
	t.Parallel()
	var n naming
	spec := &corev1.PodSpec{}
	n.fill(reflect.ValueOf(spec).Elem(), "", nil)
	want := slices.DeleteFunc(n.want, func(r Reference) bool {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.Name, "object-"), "-")
		_, is := elsewhere[path]
		return is
	})
	if len(want) < 20 {
		t.Fatalf("the walk finds only %d fields", len(want))
	}
	slices.SortFunc(want, func(a, b Reference) int { return strings.Compare(a.Kind+a.Name, b.Kind+b.Name) })
	if diff := cmp.Diff(want, References(spec)); diff != "" {
		t.Errorf("references (-in the types +found): %s", diff)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	pod := corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}, {Name: "pull"}, {}},
		Containers: []corev1.Container{{
			EnvFrom: []corev1.EnvFromSource{{Prefix: "A_"}, {ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}},
			Env:     []corev1.EnvVar{{Name: "PLAIN", Value: "x"}, {Name: "FIELD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{}}}},
		}},
	}
	if diff := cmp.Diff([]Reference{{KindConfigMap, "env"}, {KindSecret, "pull"}}, References(&pod)); diff != "" {
		t.Error(diff)
	}
	if got := References(&corev1.PodSpec{}); len(got) > 0 {
		t.Errorf("a plain pod names %v", got)
	}
}
