package serve

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
)

// UpperClient returns a client of the upper cluster for a part: by the kubeconfig at path, or by the account of the
// pod where path is empty. Each wrap goes around its transport.
func UpperClient(part, path string, wraps ...transport.WrapperFunc) (kubernetes.Interface, error) {
	config, err := upperConfig(path)
	if err != nil {
		return nil, fmt.Errorf("reading upperKubeconfig %q: %w", path, err)
	}
	config.QPS, config.Burst = 500, 1000
	config.UserAgent = "tessera-" + part
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	for _, wrap := range wraps {
		config.Wrap(wrap)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("building upper client: %w", err)
	}
	return client, nil
}

func upperConfig(path string) (*rest.Config, error) {
	if path == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", path)
}

// Identity returns the name of the upper cluster on its objects below: the configured one, or the UID of the
// kube-system namespace. An upper cluster that cannot be reached yet is waited for.
func Identity(ctx context.Context, log *slog.Logger, client kubernetes.Interface, configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	for {
		namespace, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err == nil {
			return string(namespace.UID), nil
		}
		log.Error("Reading the identity of the upper cluster failed, trying again", "err", err)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}
