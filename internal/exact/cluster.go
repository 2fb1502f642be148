package exact

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Cluster is one cluster's objects in kube-scheduler's own cache and listers, with its filter plugins on top. It is for
// one goroutine at a time: the plugins read the snapshot that the next change rewrites in place. It holds no goroutine
// and no connection, so that dropping it is all there is to ending it.
type Cluster struct {
	fw       framework.Framework
	cache    internalcache.Cache
	snapshot *internalcache.Snapshot
	names    []string // of all nodes, sorted
	version  snapshot.Version
	stale    bool // the cache holds changes that the snapshot has not seen
}

// NewCluster builds a cluster. Pods that are unbound or have ended use no room and are passed over, as kube-scheduler
// does; every other pod needs a UID of its own.
func NewCluster(objects Objects) (*Cluster, error) {
	c := &Cluster{snapshot: internalcache.NewEmptySnapshot(), version: objects.Version, stale: true}
	ctx := ended()
	var err error
	if c.fw, err = newFramework(ctx, &objects, c.snapshot); err != nil {
		return nil, fmt.Errorf("building scheduler framework: %w", err)
	}
	c.cache = internalcache.New(ctx, nil, false, false)
	names := make(map[string]bool, len(objects.Nodes))
	for _, node := range objects.Nodes {
		c.cache.AddNode(klog.Logger{}, node)
		names[node.Name] = true
	}
	c.names = slices.Sorted(maps.Keys(names))
	for _, pod := range objects.Pods {
		if usesRoom(pod) {
			if err := c.AddPod(pod); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// ended is the context to build with: the scheduler's cache and framework start goroutines that write metrics until
// their context ends, and nobody reads these metrics.
func ended() context.Context {
	ctx, cancel := context.WithCancel(quiet(context.Background()))
	cancel()
	return ctx
}

// quiet keeps the scheduler's code from logging: what it has to say is in its answers.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, klog.Logger{}) }

// usesRoom is the selection of kube-scheduler's own informer: bound, and not ended.
func usesRoom(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// AddPod charges pod to the node that its spec.nodeName names.
func (c *Cluster) AddPod(pod *corev1.Pod) error {
	if err := c.cache.AddPod(klog.Logger{}, pod); err != nil {
		return fmt.Errorf("adding pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.stale = true
	return nil
}

// RemovePod gives the room of a pod back that was added before.
func (c *Cluster) RemovePod(pod *corev1.Pod) error {
	if err := c.cache.RemovePod(klog.Logger{}, pod); err != nil {
		return fmt.Errorf("removing pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.stale = true
	return nil
}
