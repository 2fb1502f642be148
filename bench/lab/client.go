package lab

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// NewClient returns a client for loads: it holds nothing back, and speaks protobuf. It changes config.
func NewClient(config *rest.Config) (kubernetes.Interface, error) {
	config.QPS = -1
	config.UserAgent = "bench"
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("building client: %w", err)
	}
	return c, nil
}
