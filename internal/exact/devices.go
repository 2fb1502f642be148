package exact

import (
	"context"

	"github.com/go-logr/logr"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
)

// devices is what the plugins know of dynamic resources: kube-scheduler's own manager, told of every claim and class
// once, as an informer would have told it, and a fixed list of slices.
type devices struct {
	*dynamicresources.DefaultDRAManager
	slices []*resourcev1.ResourceSlice
}

var (
	_ fwk.SharedDRAManager    = (*devices)(nil)
	_ fwk.ResourceSliceLister = (*devices)(nil)
)

func newDevices(ctx context.Context, objects *Objects, listers informers.SharedInformerFactory) *devices {
	var claims announcer
	known := assumecache.NewAssumeCache(logr.Discard(), &claims, "ResourceClaim", "", nil)
	d := &devices{dynamicresources.NewDRAManager(ctx, known, nil, listers), objects.ResourceSlices}
	for _, claim := range objects.ResourceClaims {
		claims.handler.OnAdd(claim, true)
	}
	// The resolver of extended resources learns the classes from events too.
	if classes, ok := d.DeviceClassResolver().(cache.ResourceEventHandler); ok {
		for _, class := range objects.DeviceClasses {
			classes.OnAdd(class, true)
		}
	}
	return d
}

// ResourceSlices overrides the manager's lister, which would need a started informer.
func (d *devices) ResourceSlices() fwk.ResourceSliceLister { return d }

// ListWithDeviceTaintRules returns the slices as they are: the rules are behind a gate that is off by default in 1.36.
func (d *devices) ListWithDeviceTaintRules() ([]*resourcev1.ResourceSlice, error) {
	return d.slices, nil
}

// announcer stands in for an informer: it keeps the one handler that is added, for events made by hand.
type announcer struct{ handler cache.ResourceEventHandler }

// AddEventHandler keeps handler. There is no registration: nobody waits for this informer.
func (a *announcer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	a.handler = handler
	return nil, nil
}
