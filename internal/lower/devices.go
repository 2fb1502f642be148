package lower

import (
	"context"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Devices watches which extended resources the device classes of a lower cluster give (DRAExtendedResource), and how many
// devices there are to give. What the account may not list counts as not there, which the log says.
type Devices struct {
	log             *slog.Logger
	changed         func()
	classes, slices *kind
}

// NewDevices returns the watches; changed is called at each event.
func NewDevices(client kubernetes.Interface, log *slog.Logger, changed func()) *Devices {
	group := client.ResourceV1().RESTClient()
	return &Devices{
		log: log, changed: changed,
		classes: newKind(client, group, "deviceclasses", &resourcev1.DeviceClass{}),
		slices:  newKind(client, group, "resourceslices", &resourcev1.ResourceSlice{}),
	}
}

// Run watches until ctx ends.
func (d *Devices) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, k := range []*kind{d.classes, d.slices} {
		err := k.prepare(d.log, d.changed)
		if err == nil && k == d.slices {
			err = k.informer.SetTransform(countDevices)
		}
		if err != nil {
			d.log.Error("Watching failed", "kind", k.name, "err", err) // An informer takes these before it is started, always.
			continue
		}
		group.Go(func() { k.informer.RunWithContext(ctx) })
	}
	group.Wait()
}

// Most returns, for each extended resource that a device class gives, how many devices there can be of it at the most: all
// devices of the cluster, for which of them a class means is for its expressions to say.
func (d *Devices) Most() map[corev1.ResourceName]int64 {
	all := int64(0)
	for _, object := range d.slices.informer.GetStore().List() {
		all += object.(*sliceEntry).devices
	}
	most := map[corev1.ResourceName]int64{}
	if all == 0 {
		return most
	}
	for _, class := range listed[*resourcev1.DeviceClass](d.classes.informer, metav1.NamespaceAll) {
		for _, name := range given(class) {
			most[name] = all
		}
	}
	return most
}

// given are the extended resources by which pods can ask for the devices of a class.
func given(class *resourcev1.DeviceClass) []corev1.ResourceName {
	names := []corev1.ResourceName{corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix + class.Name)}
	if name := class.Spec.ExtendedResourceName; name != nil {
		names = append(names, corev1.ResourceName(*name))
	}
	return names
}

// sliceEntry is what is kept of a resource slice.
type sliceEntry struct {
	metav1.ObjectMeta
	devices int64
}

func countDevices(object any) (any, error) {
	slice, ok := object.(*resourcev1.ResourceSlice)
	if !ok {
		return object, nil // Already counted.
	}
	meta := metav1.ObjectMeta{Name: slice.Name, UID: slice.UID, ResourceVersion: slice.ResourceVersion}
	return &sliceEntry{ObjectMeta: meta, devices: int64(len(slice.Spec.Devices))}, nil
}
