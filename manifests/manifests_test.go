package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	kyaml "sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/manifests"
)

const kustomization = "kustomization.yaml"

// plain are the files that hold something else than objects, or objects of a custom resource.
func plain(file string) bool {
	return path.Base(file) == kustomization || path.Base(file) == "config.yaml" || strings.HasPrefix(file, "overlays/")
}

func walk(t *testing.T, visit func(file string, data []byte)) {
	t.Helper()
	err := fs.WalkDir(manifests.Files, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(manifests.Files, file)
		if err == nil {
			visit(file, data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// objects decodes every document strictly: a field that its API type does not know is an error.
func objects(t *testing.T, data []byte) []runtime.Object {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var found []runtime.Object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("decoding:\n%s\n%v", document, err)
		}
		found = append(found, object)
	}
}

func eachObject(t *testing.T, visit func(t *testing.T, object runtime.Object)) {
	t.Helper()
	walk(t, func(file string, data []byte) {
		if !plain(file) {
			t.Run(file, func(t *testing.T) {
				for _, object := range objects(t, data) {
					visit(t, object)
				}
			})
		}
	})
}

// clusterScoped are the kinds here that have no namespace.
var clusterScoped = []string{
	"Namespace", "ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "PriorityClass",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

func TestObjects(t *testing.T) {
	eachObject(t, func(t *testing.T, object runtime.Object) {
		kind := object.GetObjectKind().GroupVersionKind().Kind
		accessor, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := accessor.GetNamespace() == "", slices.Contains(clusterScoped, kind); got != want {
			t.Errorf("%s %s: namespace is %q", kind, accessor.GetName(), accessor.GetNamespace())
		}
		for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/part-of"} {
			if accessor.GetLabels()[label] == "" {
				t.Errorf("%s %s: no label %s", kind, accessor.GetName(), label)
			}
		}
	})
}

func TestLeastRights(t *testing.T) {
	eachObject(t, func(t *testing.T, object runtime.Object) {
		switch role := object.(type) {
		case *rbacv1.ClusterRole:
			checkRules(t, role.Name, role.Rules)
			if role.Name != "tessera-virtualnode-objects" && role.Name != "tessera-objects" { // Nothing else, and bound apart.
				readsSecrets(t, role.Name, role.Rules)
			}
		case *rbacv1.Role:
			checkRules(t, role.Name, role.Rules)
			if role.Name != "tessera-extender" && role.Name != "tessera-virtualnode" { // They keep renewed tokens.
				readsSecrets(t, role.Name, slices.DeleteFunc(role.Rules, ownSecret))
			}
		}
	})
}

func checkRules(t *testing.T, name string, rules []rbacv1.PolicyRule) {
	t.Helper()
	for i, rule := range rules {
		for _, list := range [][]string{rule.APIGroups, rule.Resources, rule.ResourceNames, rule.Verbs} {
			if slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "*") }) {
				t.Errorf("%s: rule %d has a wildcard: %v", name, i, list)
			}
		}
		if slices.Contains(rule.NonResourceURLs, "*") || slices.Contains(rule.NonResourceURLs, "/*") {
			t.Errorf("%s: rule %d opens every path", name, i)
		}
	}
}

// ownSecret reports whether a rule gives access to Secrets by name, or lets them be created alone.
func ownSecret(rule rbacv1.PolicyRule) bool {
	return len(rule.ResourceNames) > 0 || slices.Equal(rule.Verbs, []string{"create"})
}

func readsSecrets(t *testing.T, name string, rules []rbacv1.PolicyRule) {
	t.Helper()
	for i, rule := range rules {
		if slices.Contains(rule.Resources, "secrets") {
			t.Errorf("%s: rule %d reads Secrets, which it does not need", name, i)
		}
	}
}

// TestRestricted holds every pod to the level that the namespace's own label demands, with the API server's checks:
// on a Deployment it would only warn.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	eachObject(t, func(t *testing.T, object runtime.Object) {
		deployment, ok := object.(*appsv1.Deployment)
		if !ok {
			return
		}
		pod := &deployment.Spec.Template
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", deployment.Name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		for _, c := range pod.Spec.Containers {
			checkContainer(t, c)
		}
	})
}

func checkContainer(t *testing.T, c corev1.Container) {
	t.Helper()
	if s := c.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		t.Errorf("%s: root filesystem is writable", c.Name)
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Errorf("%s: a probe is missing", c.Name)
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s: resources are missing", c.Name)
	}
	if strings.Contains(c.Image, "/") {
		t.Errorf("%s: image %s names a registry", c.Name, c.Image)
	}
}

func TestKustomizationsListEveryFile(t *testing.T) {
	walk(t, func(file string, data []byte) {
		if path.Base(file) != kustomization {
			return
		}
		var k types.Kustomization
		if err := kyaml.UnmarshalStrict(data, &k); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		listed := append([]string{kustomization}, k.Resources...)
		for _, generator := range k.ConfigMapGenerator {
			listed = append(listed, generator.FileSources...)
		}
		entries, err := fs.ReadDir(manifests.Files, path.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !slices.Contains(listed, entry.Name()) {
				t.Errorf("%s does not list %s", file, entry.Name())
			}
		}
	})
}

func TestBuild(t *testing.T) {
	for _, folder := range []string{"base", "lower", "overlays/cert-manager"} {
		if build(t, folder) == 0 {
			t.Errorf("%s: no objects", folder)
		}
	}
}

// build counts the objects that `kubectl kustomize FOLDER` prints.
func build(t *testing.T, folder string) int {
	t.Helper()
	return kustomized(t, folder, nil).Size()
}

// kustomized is what `kubectl kustomize FOLDER` prints, beside the embedded files with these ones.
func kustomized(t *testing.T, folder string, more map[string]string) resmap.ResMap {
	t.Helper()
	disk := filesys.MakeFsInMemory()
	write := func(file string, data []byte) {
		if err := disk.WriteFile("/"+file, data); err != nil {
			t.Fatal(err)
		}
	}
	walk(t, write)
	for file, text := range more {
		write(file, []byte(text))
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, "/"+folder)
	if err != nil {
		t.Fatalf("building %s: %v", folder, err)
	}
	return built
}
