package exact

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// Cluster is one cluster's nodes and pods in kube-scheduler's own cache, with its filter plugins on top. It is for
// one goroutine at a time: the plugins read the snapshot that the next change rewrites in place.
type Cluster struct {
	fw       framework.Framework
	cache    internalcache.Cache
	snapshot *internalcache.Snapshot
	nodes    map[string]*corev1.Node
	stale    bool // the cache holds changes that the snapshot has not seen
}

// New builds a cluster from what an API server lists. Pods that are unbound or have ended use no room and are passed
// over, as kube-scheduler does; every other pod needs a UID. Background work of the scheduler's cache ends with ctx.
// The cluster keeps the objects and does not change them; neither may the caller.
func New(ctx context.Context, nodes []*corev1.Node, pods []*corev1.Pod) (*Cluster, error) {
	metrics.Register() // The plugin runtime counts into these unasked, and they are nil before.
	ctx = klog.NewContext(ctx, klog.Logger{})
	c := &Cluster{
		cache:    internalcache.New(ctx, nil, false),
		snapshot: internalcache.NewEmptySnapshot(),
		nodes:    make(map[string]*corev1.Node, len(nodes)),
		stale:    true,
	}
	var err error
	if c.fw, err = newFramework(ctx, c.snapshot); err != nil {
		return nil, fmt.Errorf("building scheduler framework: %w", err)
	}
	for _, node := range nodes {
		c.cache.AddNode(klog.Logger{}, node)
		c.nodes[node.Name] = node
	}
	for _, pod := range pods {
		if usesRoom(pod) {
			if err := c.AddPod(pod); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// usesRoom is the selection of kube-scheduler's own informer: bound, and not ended.
func usesRoom(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func newFramework(ctx context.Context, snapshot *internalcache.Snapshot) (framework.Framework, error) {
	defaults, err := latest.Default()
	if err != nil {
		return nil, fmt.Errorf("reading default configuration: %w", err)
	}
	profile := &defaults.Profiles[0]
	profile.Plugins = &config.Plugins{
		PreFilter: set(names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.PodTopologySpread, names.InterPodAffinity),
		Filter: set(names.NodeUnschedulable, names.NodeName, names.TaintToleration, names.NodeAffinity, names.NodePorts,
			names.NodeResourcesFit, names.PodTopologySpread, names.InterPodAffinity),
		QueueSort: set(names.PrioritySort), // NewFramework refuses a profile without these two.
		Bind:      set(names.DefaultBinder),
	}
	client := fake.NewClientset()
	return frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), profile,
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(informers.NewSharedInformerFactory(client, 0)),
		frameworkruntime.WithSnapshotSharedLister(snapshot))
}

func set(plugins ...string) config.PluginSet {
	var enabled config.PluginSet
	for _, name := range plugins {
		enabled.Enabled = append(enabled.Enabled, config.Plugin{Name: name})
	}
	return enabled
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

// Filter returns the names of the nodes that can take pod, sorted, and for every other node why not, in
// kube-scheduler's words ("PLUGIN: text, text").
func (c *Cluster) Filter(ctx context.Context, pod *corev1.Pod) (fits []string, reasons map[string]string, err error) {
	if c.stale {
		if err := c.cache.UpdateSnapshot(klog.Logger{}, c.snapshot); err != nil {
			return nil, nil, fmt.Errorf("updating scheduler snapshot: %w", err)
		}
		c.stale = false
	}
	ctx = klog.NewContext(ctx, klog.Logger{})
	state := framework.NewCycleState()
	narrowed, status, _ := c.fw.RunPreFilterPlugins(ctx, state, pod)
	reasons = make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		if !status.IsSuccess() {
			if !status.IsRejected() {
				return nil, nil, fmt.Errorf("running pre-filter plugins: %w", status.AsError())
			}
			reasons[name] = status.Plugin() + ": " + status.Message()
			continue
		}
		if !narrowed.AllNodes() && !narrowed.NodeNames.Has(name) {
			reasons[name] = names.NodeAffinity + ": the pod names other nodes"
			continue
		}
		reason, err := c.filterNode(ctx, state, pod, name)
		if err != nil {
			return nil, nil, err
		}
		if reason != "" {
			reasons[name] = reason
			continue
		}
		fits = append(fits, name)
	}
	return fits, reasons, nil
}

func (c *Cluster) filterNode(ctx context.Context, state *framework.CycleState, pod *corev1.Pod, name string) (string, error) {
	info, err := c.snapshot.Get(name)
	if err != nil {
		return "", fmt.Errorf("looking up node %s in the scheduler snapshot: %w", name, err)
	}
	status := c.fw.RunFilterPlugins(ctx, state, pod, info)
	switch {
	case status.IsSuccess():
		return "", nil
	case status.IsRejected():
		return status.Plugin() + ": " + strings.Join(status.Reasons(), ", "), nil
	}
	return "", fmt.Errorf("filtering node %s: %w", name, status.AsError())
}

// Fits asks one question of a cluster that is not kept: for every node, "" if it can take pod, else why not.
func Fits(ctx context.Context, nodes []*corev1.Node, pods []*corev1.Pod, pod *corev1.Pod) (map[string]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cluster, err := New(ctx, nodes, pods)
	if err != nil {
		return nil, err
	}
	fits, verdict, err := cluster.Filter(ctx, pod)
	if err != nil {
		return nil, err
	}
	for _, name := range fits {
		verdict[name] = ""
	}
	return verdict, nil
}
