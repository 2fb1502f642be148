package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/manifests"
)

// installNamespace is where Tessera's accounts live, above and below.
const installNamespace = "tessera-system"

// boundPolicy denies pods of Tessera's that are created with a node, see Options.BoundByHand.
const boundPolicy = "tessera-bound"

// tokenLife is longer than any lab lives.
const tokenLife = 30 * 24 * time.Hour

// applyManifests gives Tessera the accounts, the RBAC and the policies that an installation would give it, and nothing more.
func (c *cluster) applyManifests(ctx context.Context) error {
	patterns := []string{"lower/namespace.yaml", "lower/*.yaml"}
	if c.index == 0 {
		patterns = []string{
			"base/namespace.yaml", "base/view.yaml", "base/policies/*.yaml", "base/*/serviceaccount.yaml", "base/*/rbac.yaml",
			"components/*/*.yaml",
		}
	}
	done := map[string]bool{}
	for _, pattern := range patterns {
		files, err := fs.Glob(manifests.Files, pattern)
		if err != nil {
			return fmt.Errorf("finding manifests %s: %w", pattern, err)
		}
		for _, file := range files {
			if done[file] || filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			done[file] = true
			objects, err := readManifest(file)
			if err != nil {
				return err
			}
			if c.lab.options.BoundByHand {
				objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetName() == boundPolicy })
			}
			if err := c.apply(ctx, objects); err != nil {
				return fmt.Errorf("applying %s to %s: %w", file, c.name, err)
			}
		}
	}
	if c.index == 0 {
		return nil
	}
	return c.writeLowerAccount(ctx)
}

// writeLowerAccount writes the kubeconfig that the registry of lower clusters watches.
func (c *cluster) writeLowerAccount(ctx context.Context) error {
	data, _, err := c.accountKubeconfig(ctx, "tessera")
	if err != nil {
		return err
	}
	_, err = c.lab.writeFile(filepath.Join("clusters", c.name+".kubeconfig"), data)
	return err
}

// accountKubeconfig asks for a token of a service account in the install namespace and gives it as a kubeconfig and as it is.
func (c *cluster) accountKubeconfig(ctx context.Context, account string) (data []byte, token string, err error) {
	seconds := int64(tokenLife / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	answer, err := c.client.CoreV1().ServiceAccounts(installNamespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("requesting a token of %s in %s: %w", account, c.name, err)
	}
	token = answer.Status.Token
	data, err = kubeconfig(c.name, c.serverForParts(), c.ca.pem, &clientcmdapi.AuthInfo{Token: token})
	return data, token, err
}

// readManifest decodes the documents of one embedded file.
func readManifest(file string) ([]*unstructured.Unstructured, error) {
	data, err := manifests.Files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", file, err)
	}
	objects, err := decodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", file, err)
	}
	return objects, nil
}

// decodeManifest decodes the documents of a YAML file.
func decodeManifest(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// apply creates or updates objects of any kind.
func (c *cluster) apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	client, err := dynamic.NewForConfig(c.rest)
	if err != nil {
		return fmt.Errorf("making a client of %s: %w", c.name, err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	for _, object := range objects {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return fmt.Errorf("finding the resource of %s: %w", kind.Kind, err)
		}
		resource := client.Resource(mapping.Resource).Namespace(object.GetNamespace())
		_, err = resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "lab", Force: true})
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
	return nil
}

// policiesWork tries to make a node virtual, as a dry run: the API server has to deny it before any test relies on that.
func (c *cluster) policiesWork(ctx context.Context) error {
	const name = "lab-probe"
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{keys.Cluster: name}}}
	_, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil {
		return errors.New("the policies are not at work yet: anybody may make virtual nodes")
	}
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("trying the policies: %w", err)
	}
	return nil
}

// applyWebhooks registers admission's webhooks, by URL in place of a Service, and waits until the API server calls them.
func (c *cluster) applyWebhooks(ctx context.Context, base string, ca []byte) error {
	objects, err := readManifest("base/admission/webhook.yaml")
	if err != nil {
		return err
	}
	for _, object := range objects {
		if !strings.HasSuffix(object.GetKind(), "WebhookConfiguration") {
			continue
		}
		hooks, _, err := unstructured.NestedSlice(object.Object, "webhooks")
		if err != nil {
			return fmt.Errorf("reading the webhooks of %s: %w", object.GetName(), err)
		}
		for _, hook := range hooks {
			hook := hook.(map[string]any)
			path, _, _ := unstructured.NestedString(hook, "clientConfig", "service", "path")
			hook["clientConfig"] = map[string]any{"url": base + path, "caBundle": encodeBase64(ca)}
		}
		if err := unstructured.SetNestedSlice(object.Object, hooks, "webhooks"); err != nil {
			return fmt.Errorf("writing the webhooks of %s: %w", object.GetName(), err)
		}
	}
	if err := c.apply(ctx, objects); err != nil {
		return err
	}
	return poll(ctx, "the admission webhook to be called", c.webhookCalled)
}
