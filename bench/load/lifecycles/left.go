package lifecycles

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// brought are the objects below that came along with pods, and the namespaces made for them but the one that all others live in.
func (d *driver) brought(ctx context.Context) ([]string, error) {
	core, ours := d.lower.CoreV1(), metav1.ListOptions{LabelSelector: keys.Upper}
	var found []string
	for kind, list := range map[string]func() (runtime.Object, error){
		"Secret":        func() (runtime.Object, error) { return core.Secrets("").List(ctx, ours) },
		"ConfigMap":     func() (runtime.Object, error) { return core.ConfigMaps("").List(ctx, ours) },
		"Service":       func() (runtime.Object, error) { return core.Services("").List(ctx, ours) },
		"NetworkPolicy": func() (runtime.Object, error) { return d.lower.NetworkingV1().NetworkPolicies("").List(ctx, ours) },
		"Namespace":     func() (runtime.Object, error) { return core.Namespaces().List(ctx, ours) },
	} {
		objects, err := list()
		if err != nil {
			return nil, fmt.Errorf("listing objects of kind %s below: %w", kind, err)
		}
		err = meta.EachListItem(objects, func(object runtime.Object) error {
			if o := object.(metav1.Object); kind != "Namespace" || o.GetName() != d.namespace {
				found = append(found, fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName()))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
