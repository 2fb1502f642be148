package serve

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// authentication is the ConfigMap in which an API server says whose client certificates it takes.
const authentication = "extension-apiserver-authentication"

// caPatience is how long the CA may take to be read before it is missed.
const caPatience = 30 * time.Second

// ClientCA is the CA of client certificates that a guard takes.
type ClientCA struct {
	dynamiccertificates.CAContentProvider
	run func(ctx context.Context, workers int)
}

// NewClientCA reads the CA from a file, again when that changes, or where there is none from what the API server says in its ConfigMap
// kube-system/extension-apiserver-authentication. Until that was read, no certificate is taken.
func NewClientCA(client kubernetes.Interface, file string) (*ClientCA, error) {
	if file != "" {
		content, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", file)
		if err != nil {
			return nil, fmt.Errorf("reading clientCAFile: %w", err)
		}
		return &ClientCA{content, content.Run}, nil
	}
	content, err := dynamiccertificates.NewDynamicCAFromConfigMapController(
		"client-ca", metav1.NamespaceSystem, authentication, "client-ca-file", client)
	if err != nil {
		return nil, fmt.Errorf("watching ConfigMap %s: %w", authentication, err)
	}
	return &ClientCA{content, content.Run}, nil
}

// Run reads the CA and follows its changes until ctx ends.
func (c *ClientCA) Run(ctx context.Context, log *slog.Logger) {
	missed := time.AfterFunc(caPatience, func() {
		if len(c.CurrentCABundleContent()) == 0 {
			log.Error("The CA of the API server's client certificates cannot be read, so that it cannot ask for logs: bind Role "+
				"extension-apiserver-authentication-reader of kube-system, or set clientCAFile", "configMap", authentication)
		}
	})
	defer missed.Stop()
	c.run(ctx, 1)
}
