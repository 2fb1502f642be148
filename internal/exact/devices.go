package exact

import (
	"context"
	"slices"

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
	d := &devices{dynamicresources.NewDRAManager(ctx, known, nil, listers), tainted(objects.ResourceSlices, objects.DeviceTaintRules)}
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

// ListWithDeviceTaintRules returns the slices with the taints that rules give to their devices.
func (d *devices) ListWithDeviceTaintRules() ([]*resourcev1.ResourceSlice, error) {
	return d.slices, nil
}

// tainted applies rules to slices. A rule without a selector means no device, one with an empty selector every device (as
// k8s.io/dynamic-resource-allocation/resourceslice/tracker has it, which needs started informers). Slices are shared where
// no rule means a device of theirs.
func tainted(given []*resourcev1.ResourceSlice, rules []*resourcev1.DeviceTaintRule) []*resourcev1.ResourceSlice {
	if len(rules) == 0 {
		return given
	}
	all := slices.Clone(given)
	for i, slice := range given {
		for _, rule := range rules {
			for at := range slice.Spec.Devices {
				if !means(rule.Spec.DeviceSelector, &slice.Spec, slice.Spec.Devices[at].Name) {
					continue
				}
				if all[i] == slice {
					all[i] = slice.DeepCopy()
				}
				device := &all[i].Spec.Devices[at]
				device.Taints = append(device.Taints, rule.Spec.Taint)
			}
		}
	}
	return all
}

// means reports whether a selector takes a device of a slice.
func means(selector *resourcev1.DeviceTaintSelector, in *resourcev1.ResourceSliceSpec, device string) bool {
	matches := func(want *string, has string) bool { return want == nil || *want == has }
	return selector != nil && matches(selector.Driver, in.Driver) && matches(selector.Pool, in.Pool.Name) && matches(selector.Device, device)
}

// announcer stands in for an informer: it keeps the one handler that is added, for events made by hand.
type announcer struct{ handler cache.ResourceEventHandler }

// AddEventHandler keeps handler. There is no registration: nobody waits for this informer.
func (a *announcer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	a.handler = handler
	return nil, nil
}
