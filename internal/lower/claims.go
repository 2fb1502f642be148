package lower

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Claims watches what decides about pods with claims and volumes: most clusters' pods never need it, so nothing is watched
// before the first one that does.
type Claims struct {
	log     *slog.Logger
	changed func()
	kinds   []*kind
	needed  chan struct{} // closed at the first need
	need    sync.Once
	version atomic.Uint64
}

// The kinds of Claims, in the order of kinds.
const (
	kindClaims = iota
	kindVolumes
	kindStorageClasses
	kindCSINodes
	kindCSIDrivers
	kindCSICapacities
	kindAttachments
	kindResourceClaims
	kindSlices
	kindTaintRules
)

// NewClaims returns the watches; changed is called at each event.
func NewClaims(client kubernetes.Interface, log *slog.Logger, changed func()) *Claims {
	c := &Claims{log: log, changed: changed, needed: make(chan struct{})}
	core, storage, resource := client.CoreV1().RESTClient(), client.StorageV1().RESTClient(), client.ResourceV1().RESTClient()
	for _, k := range []struct {
		name    string
		client  rest.Interface
		example runtime.Object
	}{
		kindClaims:         {"persistentvolumeclaims", core, &corev1.PersistentVolumeClaim{}},
		kindVolumes:        {"persistentvolumes", core, &corev1.PersistentVolume{}},
		kindStorageClasses: {"storageclasses", storage, &storagev1.StorageClass{}},
		kindCSINodes:       {"csinodes", storage, &storagev1.CSINode{}},
		kindCSIDrivers:     {"csidrivers", storage, &storagev1.CSIDriver{}},
		kindCSICapacities:  {"csistoragecapacities", storage, &storagev1.CSIStorageCapacity{}},
		kindAttachments:    {"volumeattachments", storage, &storagev1.VolumeAttachment{}},
		kindResourceClaims: {"resourceclaims", resource, &resourcev1.ResourceClaim{}},
		kindSlices:         {"resourceslices", resource, &resourcev1.ResourceSlice{}},
		kindTaintRules:     {"devicetaintrules", resource, &resourcev1.DeviceTaintRule{}}, // From 1.37 on.
	} {
		c.kinds = append(c.kinds, newKind(client, k.client, k.name, k.example))
	}
	return c
}

// Run watches, once something is needed, until ctx ends.
func (c *Claims) Run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.needed:
	}
	var group sync.WaitGroup
	for _, k := range c.kinds {
		if err := k.prepare(c.log, func() { c.version.Add(1); c.changed() }); err != nil {
			c.log.Error("Watching failed", "kind", k.name, "err", err) // An informer takes these before it is started, always.
			continue
		}
		group.Go(func() { k.informer.RunWithContext(ctx) })
	}
	group.Wait()
}

// Known reports whether all kinds have been listed that the cluster has. The first question starts the watches. A kind that
// may not be listed leaves it unknown for ever, which the log explains: an absent claim would be taken for one that does not
// exist.
func (c *Claims) Known() bool {
	c.need.Do(func() { close(c.needed) })
	return !slices.ContainsFunc(c.kinds, func(k *kind) bool { return !k.informer.HasSynced() && !k.absent() })
}

// Version changes whenever an object does.
func (c *Claims) Version() uint64 { return c.version.Load() }

// MissesVolume reports whether a pod of the lower cluster names a volume claim that is not there, or will only be made after the pod;
// MissesDevice the same of resource claims. Both are one look-up a claim.
func (c *Claims) MissesVolume(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Ephemeral != nil || v.PersistentVolumeClaim != nil && !c.has(kindClaims, pod.Namespace, v.PersistentVolumeClaim.ClaimName)
	})
}

// MissesDevice is described at MissesVolume.
func (c *Claims) MissesDevice(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.ResourceClaims, func(claim corev1.PodResourceClaim) bool {
		return claim.ResourceClaimName == nil || !c.has(kindResourceClaims, pod.Namespace, *claim.ResourceClaimName)
	})
}

func (c *Claims) has(kind int, namespace, name string) bool {
	_, found, _ := c.kinds[kind].informer.GetStore().GetByKey(namespace + "/" + name) // A cache never fails.
	return found
}

// PersistentVolumeClaims returns all of them, as the other methods do of their kinds.
func (c *Claims) PersistentVolumeClaims() []*corev1.PersistentVolumeClaim {
	return everything[*corev1.PersistentVolumeClaim](c, kindClaims)
}

// PersistentVolumes returns all of them.
func (c *Claims) PersistentVolumes() []*corev1.PersistentVolume {
	return everything[*corev1.PersistentVolume](c, kindVolumes)
}

// StorageClasses returns all of them.
func (c *Claims) StorageClasses() []*storagev1.StorageClass {
	return everything[*storagev1.StorageClass](c, kindStorageClasses)
}

// CSINodes returns all of them.
func (c *Claims) CSINodes() []*storagev1.CSINode {
	return everything[*storagev1.CSINode](c, kindCSINodes)
}

// CSIDrivers returns all of them.
func (c *Claims) CSIDrivers() []*storagev1.CSIDriver {
	return everything[*storagev1.CSIDriver](c, kindCSIDrivers)
}

// CSIStorageCapacities returns all of them.
func (c *Claims) CSIStorageCapacities() []*storagev1.CSIStorageCapacity {
	return everything[*storagev1.CSIStorageCapacity](c, kindCSICapacities)
}

// VolumeAttachments returns all of them.
func (c *Claims) VolumeAttachments() []*storagev1.VolumeAttachment {
	return everything[*storagev1.VolumeAttachment](c, kindAttachments)
}

// ResourceClaims returns all of them.
func (c *Claims) ResourceClaims() []*resourcev1.ResourceClaim {
	return everything[*resourcev1.ResourceClaim](c, kindResourceClaims)
}

// ResourceSlices returns all of them.
func (c *Claims) ResourceSlices() []*resourcev1.ResourceSlice {
	return everything[*resourcev1.ResourceSlice](c, kindSlices)
}

// DeviceTaintRules returns all of them.
func (c *Claims) DeviceTaintRules() []*resourcev1.DeviceTaintRule {
	return everything[*resourcev1.DeviceTaintRule](c, kindTaintRules)
}

func everything[T metav1.Object](c *Claims, kind int) []T {
	return listed[T](c.kinds[kind].informer, metav1.NamespaceAll)
}
