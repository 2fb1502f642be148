package admission

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/serve"
)

// namespaces know what the upper cluster's namespaces say about their pods.
type namespaces struct {
	client   kubernetes.Interface
	informer cache.SharedIndexInformer
}

// namespaces returns nil where admission has no account: with a certificate from files it can do without one, and then the annotations of
// namespaces count for nothing.
func (c *Config) namespaces(log *slog.Logger) (*namespaces, error) {
	client, err := serve.UpperClient("admission", c.UpperKubeconfig)
	if (errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, fs.ErrNotExist) && c.UpperKubeconfig == "") && !c.own() {
		log.Warn("Without an account in the upper cluster the annotations of namespaces are not read: give upperKubeconfig")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return newNamespaces(client)
}

func newNamespaces(client kubernetes.Interface) (*namespaces, error) {
	n := &namespaces{client: client, informer: coreinformers.NewNamespaceInformer(client, 0, cache.Indexers{})}
	if err := n.informer.SetTransform(trim); err != nil {
		return nil, fmt.Errorf("watching namespaces: %w", err)
	}
	return n, nil
}

// trim keeps annotations.
func trim(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace.Name, ResourceVersion: namespace.ResourceVersion, UID: namespace.UID, Annotations: namespace.Annotations,
	}}, nil
}

// run watches until ctx ends.
func (n *namespaces) run(ctx context.Context) error {
	if n == nil {
		return nil
	}
	n.informer.RunWithContext(ctx)
	return nil
}

// ready says why nothing is known of namespaces.
func (n *namespaces) ready() error {
	if n != nil && !n.informer.HasSynced() {
		return errors.New("the namespaces of the upper cluster are not listed yet")
	}
	return nil
}

// asking bounds the question about a namespace that has just been made. API servers wait for the whole answer.
const asking = 2 * time.Second

// annotations are those of a namespace. One that the cache does not have is asked for: its pods come right after it.
func (n *namespaces) annotations(name string) (map[string]string, error) {
	if object, known, _ := n.informer.GetStore().GetByKey(name); known {
		return object.(*corev1.Namespace).Annotations, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), asking)
	defer cancel()
	namespace, err := n.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil // A dry run of what is not there: the API server says so itself.
	}
	if err != nil {
		return nil, fmt.Errorf("asking for it: %w", err)
	}
	return namespace.Annotations, nil
}
