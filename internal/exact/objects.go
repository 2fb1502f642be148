package exact

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Objects is one cluster as its API server lists it. Nodes and Pods are always needed; every other list only if a pod
// that is asked about, or one that runs, refers to such objects: a list that is left out is an empty one. Nobody may
// change the objects while a Cluster that was built from them is in use.
type Objects struct {
	Version              snapshot.Version // of the cluster's scheduler
	Nodes                []*corev1.Node
	Pods                 []*corev1.Pod
	Namespaces           []*corev1.Namespace // for the namespaceSelector of pod affinity terms
	Claims               []*corev1.PersistentVolumeClaim
	Volumes              []*corev1.PersistentVolume
	StorageClasses       []*storagev1.StorageClass
	CSINodes             []*storagev1.CSINode
	CSIDrivers           []*storagev1.CSIDriver
	CSIStorageCapacities []*storagev1.CSIStorageCapacity
	VolumeAttachments    []*storagev1.VolumeAttachment
	ResourceClaims       []*resourcev1.ResourceClaim
	ResourceSlices       []*resourcev1.ResourceSlice
	DeviceTaintRules     []*resourcev1.DeviceTaintRule
	DeviceClasses        []*resourcev1.DeviceClass // also for extended resources that devices back
}

// listers returns informers that are never started, filled by hand. The plugins read nothing of an informer but its
// store, so that there is no API server, no goroutine and no waiting; nodes and pods they take from the snapshot.
func (o *Objects) listers() (informers.SharedInformerFactory, error) {
	factory := informers.NewSharedInformerFactory(nil, 0) // The client would be used by started informers only.
	core, storage, resource := factory.Core().V1(), factory.Storage().V1(), factory.Resource().V1()
	err := errors.Join(
		fill(core.Namespaces().Informer(), o.Namespaces),
		fill(core.PersistentVolumeClaims().Informer(), o.Claims),
		fill(core.PersistentVolumes().Informer(), o.Volumes),
		fill(storage.StorageClasses().Informer(), o.StorageClasses),
		fill(storage.CSINodes().Informer(), o.CSINodes),
		fill(storage.CSIDrivers().Informer(), o.CSIDrivers),
		fill(storage.CSIStorageCapacities().Informer(), o.CSIStorageCapacities),
		fill(storage.VolumeAttachments().Informer(), o.VolumeAttachments),
		fill(resource.DeviceClasses().Informer(), o.DeviceClasses),
	)
	return factory, err
}

func fill[T any](informer cache.SharedIndexInformer, objects []T) error {
	if len(objects) == 0 {
		return nil
	}
	items := make([]any, len(objects))
	for i, object := range objects {
		items[i] = object
	}
	if err := informer.GetIndexer().Replace(items, ""); err != nil {
		return fmt.Errorf("filling lister of %T: %w", objects, err)
	}
	return nil
}
