package virtualnode

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	metricsclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/virtualnode/kubelet"
	"github.com/tessera-k8s/tessera/virtualnode/kubelet/endpoint"
	"github.com/tessera-k8s/tessera/virtualnode/node"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
	"github.com/tessera-k8s/tessera/virtualnode/usage"
)

// kubelets is what the kubelet APIs of all virtual nodes share.
type kubelets struct {
	client      kubernetes.Interface
	log         *slog.Logger
	guard       *serve.Guard
	ca          *serve.ClientCA
	address     *endpoint.Address
	ports       *endpoint.Ports
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// newKubelets returns nil where the configuration wants none. The client asks the upper cluster about others: it may do so in a replica
// that waits for its turn, too.
func newKubelets(config kubelet.Config, client kubernetes.Interface, log *slog.Logger) (*kubelets, error) {
	if !config.Enabled {
		return nil, nil
	}
	k := &kubelets{client: client, log: log}
	var err error
	if k.ca, err = serve.NewClientCA(client, config.ClientCAFile); err != nil {
		return nil, err
	}
	if k.guard, err = serve.NewGuardOf(client, k.ca); err != nil {
		return nil, err
	}
	first, last, err := config.PortRange()
	if err != nil {
		return nil, fmt.Errorf("reading kubelet: ports: %w", err)
	}
	k.ports = endpoint.NewPorts(config.Bind, first, last)
	k.address = endpoint.NewAddress(config.Address, client.CoreV1().RESTClient().Get().URL().Host)
	if config.CertFile != "" {
		k.certificate, err = serve.Certificate(config.CertFile, config.KeyFile)
		return k, err
	}
	made, err := endpoint.NewCertificates(config.SignerCertFile, config.SignerKeyFile, k.address.String)
	if err != nil {
		return nil, err
	}
	k.certificate = made.Get
	return k, nil
}

// run looks after what they share until ctx ends; changed is called when the address is another one.
func (k *kubelets) run(ctx context.Context, changed func()) error {
	return serve.Run(ctx,
		func(ctx context.Context) error { k.ca.Run(ctx, k.log); return nil },
		func(ctx context.Context) error { k.address.Run(ctx, k.log, changed); return nil },
	)
}

// keepPorts notes which port is whose, so that a virtual node that is new does not take that of one which comes back.
func (k *kubelets) keepPorts(ctx context.Context) {
	nodes, err := k.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: keys.Cluster})
	if err != nil {
		k.log.Warn("Reading which virtual node has which port failed, they may get others", "err", err)
		return
	}
	k.ports.Keep(nodes.Items)
}

// addKubelet makes the kubelet API of a virtual node. config reaches the lower cluster.
func (v *virtualNode) addKubelet(config *restclient.Config) error {
	k := v.server.kubelets
	if k == nil {
		return nil
	}
	lower, err := kubelet.NewLower(config, func() bool { return node.Answers(v.health(), time.Now()) })
	if err != nil {
		return err
	}
	metrics, err := metricsclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("building the client of the metrics API: %w", err)
	}
	v.usage = usage.New(usage.Setup{
		Name: v.name, Identity: v.server.identity, Source: metrics.PodMetricses(metav1.NamespaceAll), Above: v.above.GetStore().List,
		LowerOf: func(upper *corev1.Pod) *corev1.Pod { return pair.LowerOf(v.below, upper, v.server.identity, v.name) },
		Changed: v.keeper.Touch, Log: v.log,
	})
	v.kubelet = kubelet.New(kubelet.Setup{
		Name: v.name, Identity: v.server.identity, Guard: k.guard, Above: v.above.GetStore(), Below: v.below, Lower: lower, Barred: v.barred,
		Ports: k.ports, Certificate: k.certificate, Figures: v.usage.Handlers(), Metrics: v.server.metrics.kubelet,
		Changed: v.keeper.Touch, Log: v.log,
	})
	return nil
}

// touchNodes has all Nodes made anew.
func (s *server) touchNodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.nodes {
		v.keeper.Touch()
	}
}
