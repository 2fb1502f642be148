package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// silentAnnotation on a node stops its lease, as if the machine had died.
const silentAnnotation = "lab.tessera.sh/silent"

// keeper does what KWOK leaves out or does badly. It renews the leases of the nodes that KWOK plays: KWOK can do that itself,
// but then ignores pods that were bound before it saw its own lease (0.8.0: pod events are dropped as "read only" and not
// looked at again).
type keeper struct {
	client   kubernetes.Interface
	selector string
	every    time.Duration
}

// newKeeper reads the flags that it shares with KWOK, and LAB_LEASE_EVERY (10 s unless set).
func newKeeper(args []string) (*keeper, error) {
	k := &keeper{every: 10 * time.Second}
	flags := pflag.NewFlagSet("leases", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	file := flags.String("kubeconfig", "", "")
	flags.StringVar(&k.selector, "manage-nodes-with-label-selector", "", "")
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("reading the flags of the lease keeper: %w", err)
	}
	if text := os.Getenv("LAB_LEASE_EVERY"); text != "" {
		every, err := time.ParseDuration(text)
		if err != nil || every <= 0 {
			return nil, fmt.Errorf("reading LAB_LEASE_EVERY: %q is not a duration such as 10s", text)
		}
		k.every = every
	}
	config, err := clientcmd.BuildConfigFromFlags("", *file)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of the lease keeper: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	k.client, err = kubernetes.NewForConfig(config)
	return k, err
}

// run renews all leases at once and then every interval, until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		if err := k.renewAll(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "leases:", err) // the next round tries again
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *keeper) renewAll(ctx context.Context) error {
	nodes, err := k.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: k.selector, ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	work := make(chan *corev1.Node)
	failed := make(chan error, 1)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for node := range work {
				if err := k.renew(ctx, node); err != nil {
					select {
					case failed <- err:
					default: // one is enough to report
					}
				}
			}
		})
	}
	for i := range nodes.Items {
		if nodes.Items[i].Annotations[silentAnnotation] != "true" {
			work <- &nodes.Items[i]
		}
	}
	close(work)
	wait.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (k *keeper) renew(ctx context.Context, node *corev1.Node) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	patch := fmt.Sprintf(`{"spec":{"renewTime":%q}}`, now.UTC().Format(metav1.RFC3339Micro))
	_, err := leases.Patch(ctx, node.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		seconds := int32(40)
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name:            node.Name,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
			},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renewing the lease of node %s: %w", node.Name, err)
	}
	return nil
}
