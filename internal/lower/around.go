package lower

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// Around watches what has a word in where pods can go beside nodes and pods: the labels of namespaces, their LimitRanges
// and ResourceQuotas, and the classes of devices, runtimes and priorities. Few objects, rarely changed. What the account may not
// list counts as not there, which the log says.
type Around struct {
	log     *slog.Logger
	changed func()
	kinds   []*kind

	mu         sync.Mutex
	namespaces snapshot.Namespaces // made anew after each change
	version    uint64
	entries    uint64
	// How many there are of what few clusters have, so that the others are not asked more; counted where something has changed.
	counts  [kinds]int
	stale   [kinds]bool
	devices map[corev1.ResourceName]bool
}

// The kinds of Around, in the order of kinds.
const (
	kindNamespaces = iota
	kindLimitRanges
	kindQuotas
	kindDeviceClasses
	kindRuntimeClasses
	kindPriorityClasses
	kinds // how many there are
)

// arounds counts those made, so that no two count their changes from the same number.
var arounds atomic.Uint64

// NewAround returns the watches; changed is called at each event.
func NewAround(client kubernetes.Interface, log *slog.Logger, changed func()) *Around {
	a := &Around{log: log, changed: changed, entries: arounds.Add(1) << 32}
	for _, k := range []struct {
		name    string
		client  rest.Interface
		example runtime.Object
	}{
		kindNamespaces:      {"namespaces", client.CoreV1().RESTClient(), &corev1.Namespace{}},
		kindLimitRanges:     {"limitranges", client.CoreV1().RESTClient(), &corev1.LimitRange{}},
		kindQuotas:          {"resourcequotas", client.CoreV1().RESTClient(), &corev1.ResourceQuota{}},
		kindDeviceClasses:   {"deviceclasses", client.ResourceV1().RESTClient(), &resourcev1.DeviceClass{}},
		kindRuntimeClasses:  {"runtimeclasses", client.NodeV1().RESTClient(), &nodev1.RuntimeClass{}},
		kindPriorityClasses: {"priorityclasses", client.SchedulingV1().RESTClient(), &schedulingv1.PriorityClass{}},
	} {
		a.kinds = append(a.kinds, newKind(client, k.client, k.name, k.example))
	}
	return a
}

// Run watches until ctx ends.
func (a *Around) Run(ctx context.Context) {
	var group sync.WaitGroup
	for i, k := range a.kinds {
		if err := k.prepare(a.log, func() { a.see(i) }); err != nil {
			a.log.Error("Watching failed", "kind", k.name, "err", err) // An informer takes these before it is started, always.
			continue
		}
		group.Go(func() { k.informer.RunWithContext(ctx) })
	}
	group.Wait()
}

// Known reports whether all that can be known has been listed.
func (a *Around) Known() bool {
	return !slices.ContainsFunc(a.kinds, func(k *kind) bool { return !k.known() })
}

func (a *Around) see(kind int) {
	a.mu.Lock()
	switch kind {
	case kindNamespaces:
		a.namespaces = nil
		a.version++
	case kindDeviceClasses:
		a.devices = nil
		a.version++
	}
	if kind != kindQuotas && kind != kindDeviceClasses {
		a.entries++
	}
	a.stale[kind] = true
	a.mu.Unlock()
	a.changed()
}

// Entries counts the changes of what the cluster makes of pods that enter it: LimitRanges, classes, namespaces that end.
func (a *Around) Entries() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entries
}

// Version counts the changes of what Namespaces and Devices return.
func (a *Around) Version() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.version
}

// Namespaces returns the labels of all namespaces. The caller does not change them.
func (a *Around) Namespaces() snapshot.Namespaces {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.namespaces == nil {
		a.namespaces = snapshot.Namespaces{}
		for _, object := range a.kinds[kindNamespaces].informer.GetStore().List() {
			namespace := object.(*corev1.Namespace)
			a.namespaces[namespace.Name] = namespace.Labels
		}
	}
	return a.namespaces
}

// Devices returns the extended resources that device classes give.
func (a *Around) Devices() map[corev1.ResourceName]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.devices == nil {
		a.devices = map[corev1.ResourceName]bool{}
		for _, class := range a.DeviceClasses() {
			a.devices[corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix+class.Name)] = true
			if name := class.Spec.ExtendedResourceName; name != nil {
				a.devices[corev1.ResourceName(*name)] = true
			}
		}
	}
	return maps.Clone(a.devices)
}

// DeviceClasses returns the device classes.
func (a *Around) DeviceClasses() []*resourcev1.DeviceClass {
	return listed[*resourcev1.DeviceClass](a.kinds[kindDeviceClasses].informer, metav1.NamespaceAll)
}

// none reports whether there are none of a kind, of namespaces: none that ends.
func (a *Around) none(kind int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stale[kind] {
		a.stale[kind], a.counts[kind] = false, 0
		for _, object := range a.kinds[kind].informer.GetStore().List() {
			if namespace, ok := object.(*corev1.Namespace); !ok || namespace.DeletionTimestamp != nil {
				a.counts[kind]++
			}
		}
	}
	return a.counts[kind] == 0
}

// LimitRanges returns those of a namespace.
func (a *Around) LimitRanges(namespace string) []*corev1.LimitRange {
	if a.none(kindLimitRanges) {
		return nil
	}
	return listed[*corev1.LimitRange](a.kinds[kindLimitRanges].informer, namespace)
}

// Quotas returns the ResourceQuotas of a namespace.
func (a *Around) Quotas(namespace string) []*corev1.ResourceQuota {
	if a.none(kindQuotas) {
		return nil
	}
	return listed[*corev1.ResourceQuota](a.kinds[kindQuotas].informer, namespace)
}

// RuntimeClass returns the runtime class of a name, nil if there is none. known is false where nobody can tell.
func (a *Around) RuntimeClass(name string) (class *nodev1.RuntimeClass, known bool) {
	object, known := a.named(kindRuntimeClasses, name)
	class, _ = object.(*nodev1.RuntimeClass)
	return class, known
}

// HasPriorityClass reports whether there is a priority class of a name. known is false where nobody can tell.
func (a *Around) HasPriorityClass(name string) (has, known bool) {
	object, known := a.named(kindPriorityClasses, name)
	return object != nil, known
}

// Ending reports whether a namespace is being deleted.
func (a *Around) Ending(name string) bool {
	if a.none(kindNamespaces) {
		return false
	}
	object, _ := a.named(kindNamespaces, name)
	namespace, ok := object.(*corev1.Namespace)
	return ok && namespace.DeletionTimestamp != nil
}

// named returns the object of a name, nil if there is none. known is false where the kind has not been listed, or may not be.
func (a *Around) named(of int, name string) (object any, known bool) {
	informer := a.kinds[of].informer
	if !informer.HasSynced() {
		return nil, false
	}
	object, found, _ := informer.GetStore().GetByKey(name) // A cache never fails.
	if !found {
		return nil, true
	}
	return object, true
}
