package lab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

//go:embed dns.yaml
var dnsManifest string

//go:embed metrics.yaml
var metricsManifest string

// Ports in the namespace of each lower cluster.
const (
	dnsReadyPort = 8181
	metricsPort  = 4443
)

// buildThird builds the programs that a cluster with a network of its own has beside those of Kubernetes.
func buildThird(ctx context.Context, log io.Writer) (map[string]string, error) {
	built := map[string]string{}
	for _, name := range []string{CoreDNS, MetricsServer} {
		file, err := Third(ctx, name, log)
		if err != nil {
			return nil, err
		}
		built[name] = file
	}
	return built, nil
}

// startServices starts kube-proxy, the DNS and the metrics of a cluster with a network of its own; the upper one has metrics alone. They
// are not waited for: they take ten seconds more.
func (c *cluster) startServices(ctx context.Context) error {
	if c.network == nil {
		return nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.startMetrics(groupCtx) })
	if c.index > 0 {
		group.Go(func() error { return c.startKubeProxy(groupCtx) })
		group.Go(func() error { return c.startDNS(groupCtx) })
	}
	return group.Wait()
}

func (c *cluster) startKubeProxy(ctx context.Context) error {
	path, args, env := c.real.KubeProxy()
	return c.lab.sup.process(c.name+"/kube-proxy").start(ctx, command{
		path: path, args: args, env: env, within: c.lab.sup.process(c.name + "/containerd"), network: c.network,
		ready: func(ctx context.Context) error { return c.answers(ctx, "http://"+c.real.ProxyHealth()+"/healthz") },
	})
}

// dnsAddress is the address of the cluster's DNS for its pods.
func (c *cluster) dnsAddress() netip.Addr {
	bytes := serviceNetwork(c.index).Addr().As4()
	bytes[3] = 10
	return netip.AddrFrom4(bytes)
}

// applyServer creates the Service of a server that is no pod, and the server's account.
func (c *cluster) applyServer(ctx context.Context, manifest string) error {
	text := strings.NewReplacer(
		"$ADDRESS", c.address.String(), "$DNS", c.dnsAddress().String(), "$METRICS_PORT", fmt.Sprint(metricsPort), "$CA", encodeBase64(c.ca.pem),
	).Replace(manifest)
	objects, err := decodeManifest([]byte(text))
	if err != nil {
		return fmt.Errorf("reading the Services of DNS and metrics: %w", err)
	}
	return c.apply(ctx, objects)
}

// startDNS starts CoreDNS. It answers for the cluster's names, and that there are no others.
func (c *cluster) startDNS(ctx context.Context) error {
	if err := c.applyServer(ctx, dnsManifest); err != nil {
		return err
	}
	account := filepath.Join("pki", c.name, "coredns.kubeconfig")
	if _, err := c.writeKubeconfig(account, "coredns"); err != nil {
		return err
	}
	ready := fmt.Sprintf("%s:%d", c.address, dnsReadyPort)
	file, err := c.lab.writeFile(filepath.Join("state", c.name, "Corefile"), fmt.Appendf(nil, `cluster.local in-addr.arpa ip6.arpa {
    bind %[1]s
    errors
    ready %[2]s
    loadbalance
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %[3]s
        pods insecure
        ttl 5
    }
}
. {
    bind %[1]s
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`, c.address, ready, filepath.Join(c.lab.dir, account)))
	if err != nil {
		return err
	}
	return c.lab.sup.process(c.name+"/coredns").start(ctx, command{
		path: c.lab.third[CoreDNS], args: []string{"-conf", file}, network: c.network,
		ready: func(ctx context.Context) error { return c.answers(ctx, "http://"+ready+"/ready") },
	})
}

// startMetrics starts metrics-server. It asks kubelets every 10 s, which is the least, and virtual nodes as well.
func (c *cluster) startMetrics(ctx context.Context) error {
	if err := c.applyServer(ctx, metricsManifest); err != nil {
		return err
	}
	pair, err := c.ca.server("metrics-server", "metrics-server.kube-system.svc")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"metrics-server.crt": pair.cert, "metrics-server.key": pair.key} {
		if _, err := c.lab.writeFile(filepath.Join("pki", c.name, name), data); err != nil {
			return err
		}
	}
	if _, err := c.writeKubeconfig(filepath.Join("pki", c.name, "metrics-server.kubeconfig"), "metrics-server"); err != nil {
		return err
	}
	account := c.pki("metrics-server.kubeconfig")
	return c.lab.sup.process(c.name+"/metrics-server").start(ctx, command{
		path: c.lab.third[MetricsServer], network: c.network,
		args: []string{
			"--kubeconfig=" + account, "--authentication-kubeconfig=" + account, "--authorization-kubeconfig=" + account,
			"--bind-address=" + c.address.String(), fmt.Sprintf("--secure-port=%d", metricsPort),
			"--tls-cert-file=" + c.pki("metrics-server.crt"), "--tls-private-key-file=" + c.pki("metrics-server.key"),
			"--kubelet-certificate-authority=" + c.pki("kubelet-ca.crt"), "--kubelet-preferred-address-types=InternalIP,Hostname",
			"--kubelet-use-node-status-port",
			"--metric-resolution=10s", "--kubelet-request-timeout=5s",
		},
	})
}

// writeAggregationKeys makes the certificate with which an API server speaks for its users to those behind it.
func (c *cluster) writeAggregationKeys() error {
	if c.network == nil {
		return nil
	}
	pair, err := c.ca.client("front-proxy-client")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"front-proxy.crt": pair.cert, "front-proxy.key": pair.key} {
		if _, err := c.lab.writeFile(filepath.Join("pki", c.name, name), data); err != nil {
			return err
		}
	}
	return nil
}

// aggregationArgs let an API server ask others behind it, metrics-server for one. The upper cluster has no kube-proxy: its API server
// goes to a Service's endpoints by itself.
func (c *cluster) aggregationArgs() []string {
	args := []string{
		"--requestheader-client-ca-file=" + c.pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki("front-proxy.crt"), "--proxy-client-key-file=" + c.pki("front-proxy.key"),
	}
	if c.index == 0 {
		args = append(args, "--enable-aggregator-routing=true")
	}
	return args
}

// answers asks an HTTP server in the cluster's namespace.
func (c *cluster) answers(ctx context.Context, url string) error {
	transport := &http.Transport{DialContext: c.network.DialContext, DisableKeepAlives: true}
	return httpReady(ctx, &http.Client{Transport: transport}, url)
}
