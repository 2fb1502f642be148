package exact

import (
	"context"
	"fmt"

	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// newFramework instantiates the default profile as a whole, not a selection: what a later Kubernetes version adds to
// the filters is then in it, and in their order. It is given no client, so that nothing in it can reach an API server.
// Goroutines that it starts end with ctx.
func newFramework(ctx context.Context, objects *Objects, snapshot fwk.SharedLister) (framework.Framework, error) {
	metrics.Register() // The plugin runtime counts into these unasked, and they are nil before.
	defaults, err := latest.Default()
	if err != nil {
		return nil, fmt.Errorf("reading default configuration: %w", err)
	}
	listers, err := objects.listers()
	if err != nil {
		return nil, err
	}
	return frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), &defaults.Profiles[0],
		frameworkruntime.WithInformerFactory(listers),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(listers.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithSharedDRAManager(newDevices(ctx, objects, listers)))
}
