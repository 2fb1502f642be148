package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// keeper does beside KWOK what it leaves out or does badly: it renews leases, reaps pods that have ended and nudges KWOK where
// it overlooks one. All three look at one cache of the nodes that KWOK plays and one of the pods that have a node.
type keeper struct {
	client      kubernetes.Interface
	nodes, pods cache.SharedIndexInformer
	every       time.Duration // between two renewals of a lease
}

// newKeeper reads the flags that it shares with KWOK, and LAB_LEASE_EVERY (10 s unless set).
func newKeeper(args []string) (*keeper, error) {
	k := &keeper{every: 10 * time.Second}
	flags := pflag.NewFlagSet("keeper", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	file := flags.String("kubeconfig", "", "")
	selector := flags.String("manage-nodes-with-label-selector", "", "")
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("reading the keeper's flags: %w", err)
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
		return nil, fmt.Errorf("reading the keeper's kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 500, 1000
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if k.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making the keeper's client: %w", err)
	}
	k.nodes = coreinformers.NewFilteredNodeInformer(k.client, 0, nil, func(o *metav1.ListOptions) { o.LabelSelector = *selector })
	k.pods = coreinformers.NewFilteredPodInformer(k.client, "", 0, nil, func(o *metav1.ListOptions) { o.FieldSelector = "spec.nodeName!=" })
	return k, k.pods.SetTransform(onlyNeeded)
}

// run works until ctx ends.
func (k *keeper) run(ctx context.Context) {
	go k.nodes.RunWithContext(ctx)
	go k.pods.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), k.nodes.HasSynced, k.pods.HasSynced) {
		return
	}
	go k.lease(ctx)
	go k.nudge(ctx)
	k.reap(ctx)
}

// plays reports whether KWOK plays a node.
func (k *keeper) plays(node string) bool {
	_, ok, _ := k.nodes.GetStore().GetByKey(node) // A cache never fails.
	return ok
}

// onlyNeeded keeps what hasEnded and isOverlooked look at.
func onlyNeeded(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, CreationTimestamp: pod.CreationTimestamp,
			DeletionTimestamp: pod.DeletionTimestamp, DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
		},
		Spec: corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase, StartTime: pod.Status.StartTime, Conditions: pod.Status.Conditions,
			ContainerStatuses: pod.Status.ContainerStatuses,
		},
	}, nil
}
