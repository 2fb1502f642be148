package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tessera-k8s/tessera/bench/lab/network"
	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

const upperName = "upper"

// cluster is one control plane with its nodes.
type cluster struct {
	lab    *Lab
	name   string
	index  int // 0 is the upper cluster, k is lower-k
	ca     *authority
	port   int
	rest   *rest.Config
	client kubernetes.Interface
	nodes  []corev1.ResourceList
	real   *realnode.Node // nil: KWOK plays the nodes

	network *network.Namespace // nil: the machine's
	address netip.Addr         // in the network that all clusters have in common; invalid without networks
}

// kubeconfigFile is the admin's kubeconfig, relative to the lab's folder.
func (c *cluster) kubeconfigFile() string { return c.name + ".kubeconfig" }

func (c *cluster) server() string { return fmt.Sprintf("https://127.0.0.1:%d", c.port) }

// serviceCIDR and podCIDR differ from cluster to cluster, so that a mixed-up address is seen at once.
func (c *cluster) serviceCIDR() string { return fmt.Sprintf("10.%d.0.0/16", 96+c.index) }
func (c *cluster) podCIDR() string     { return fmt.Sprintf("10.%d.0.1/16", 200-c.index) }

// start brings the cluster up to the point where pods can be created and bound.
func (c *cluster) start(ctx context.Context) error {
	begin := time.Now()
	if err := c.writeKeys(); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if err := c.startControllers(ctx); err != nil {
		return err
	}
	if err := c.createNodes(ctx); err != nil {
		return err
	}
	if err := c.startRealNode(ctx); err != nil {
		return err
	}
	if err := c.startServices(ctx); err != nil {
		return err
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	if err := c.applyManifests(ctx); err != nil {
		return err
	}
	if err := c.waitWorking(ctx); err != nil {
		return err
	}
	c.lab.printf("%s ready after %.1f s: %d nodes, %d MiB", c.name, time.Since(begin).Seconds(), c.nodeCount(), c.lab.memoryMiB(c.name))
	return nil
}

// startAPIServer starts etcd and kube-apiserver; when somebody takes the port in the last moment, once more with another one.
func (c *cluster) startAPIServer(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		port, err := c.lab.networks.openPort(c.lab.pickPort, c.network)
		if err != nil {
			return err
		}
		c.port = port
		if err := c.writeKubeconfigs(); err != nil {
			return err
		}
		err = c.lab.sup.process(c.name+"/apiserver").start(ctx, command{
			path: c.lab.planes, args: c.apiServerArgs(), env: c.lab.controlEnv(), ready: c.apiServerReady, network: c.network,
		})
		if attempt == 0 && errors.Is(err, errPortBusy) {
			c.lab.printf("%s: port %d was taken meanwhile, trying another one", c.name, port)
			continue
		}
		return err
	}
}

func (c *cluster) apiServerReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

func (c *cluster) startControllers(ctx context.Context) error {
	scheduler := c.schedulerArgs()
	if c.index == 0 {
		file, err := c.lab.writeSchedulerConfig()
		if err != nil {
			return err
		}
		scheduler = append(scheduler, "--config="+file)
	}
	start := func(name string, args []string) error {
		return c.lab.sup.process(c.name+"/"+name).start(ctx, command{
			path: c.lab.planes, args: args, env: c.lab.controlEnv(), network: c.network,
		})
	}
	if err := start("kube-controller-manager", c.controllerManagerArgs()); err != nil {
		return err
	}
	if err := start("kube-scheduler", scheduler); err != nil {
		return err
	}
	if c.real != nil || c.index == 0 && len(c.nodes) == 0 {
		return nil // KWOK would have nothing to do
	}
	return start("kwok", c.kwokArgs())
}

// waitWorking waits for the first things that the controllers and KWOK do: a cluster that is "ready" before would refuse pods.
func (c *cluster) waitWorking(ctx context.Context) error {
	return poll(ctx, c.name, func(ctx context.Context) error {
		if _, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		if c.index == 0 {
			if err := c.policiesWork(ctx); err != nil {
				return err
			}
		}
		nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: labelNode})
		if err != nil {
			return err
		}
		for _, n := range nodes.Items {
			if len(n.Spec.Taints) > 0 {
				return fmt.Errorf("node %s still has the taint %s", n.Name, n.Spec.Taints[0].Key)
			}
		}
		return c.fillersRunning(ctx)
	})
}

// poll calls check until it succeeds; the error at the end of ctx is the last one of check.
func poll(ctx context.Context, what string, check func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		last := check(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", what, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// writeKeys makes the cluster's authority and the keys of its API server.
func (c *cluster) writeKeys() error {
	ca, err := newAuthority(c.name + "-ca")
	if err != nil {
		return err
	}
	c.ca = ca
	hosts := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", fmt.Sprintf("10.%d.0.1", 96+c.index)}
	if c.address.IsValid() {
		hosts = append(hosts, c.address.String())
	}
	pair, err := ca.server("kube-apiserver", hosts...)
	if err != nil {
		return err
	}
	if err := c.writeKubeletKeys(); err != nil {
		return err
	}
	if err := c.writeAggregationKeys(); err != nil {
		return err
	}
	private, public, err := signingKeys()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"ca.crt": ca.pem, "apiserver.crt": pair.cert, "apiserver.key": pair.key, "sa.key": private, "sa.pub": public,
	} {
		if _, err := c.lab.writeFile(filepath.Join("pki", c.name, name), data); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfigs writes the admin's kubeconfig and that of the scheduler, and makes the lab's own client.
func (c *cluster) writeKubeconfigs() error {
	admin, err := c.writeKubeconfig(c.kubeconfigFile(), "lab-admin", "system:masters")
	if err != nil {
		return err
	}
	if _, err := c.writeKubeconfig(filepath.Join("pki", c.name, "scheduler.kubeconfig"), "system:kube-scheduler"); err != nil {
		return err
	}
	if c.rest, err = restConfig(admin); err != nil {
		return err
	}
	if c.client, err = kubernetes.NewForConfig(c.rest); err != nil {
		return fmt.Errorf("making a client of %s: %w", c.name, err)
	}
	return nil
}

func (c *cluster) writeKubeconfig(rel, user string, groups ...string) ([]byte, error) {
	pair, err := c.ca.client(user, groups...)
	if err != nil {
		return nil, err
	}
	auth := &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	data, err := kubeconfig(c.name, c.server(), c.ca.pem, auth)
	if err != nil {
		return nil, err
	}
	_, err = c.lab.writeFile(rel, data)
	return data, err
}
