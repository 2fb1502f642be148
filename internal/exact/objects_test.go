package exact_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func resources(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func node(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"host": name}}}
	n.Status.Allocatable = resources("cpu", "4", "memory", "8Gi", "ephemeral-storage", "8Gi", "pods", "10")
	for _, e := range edit {
		e(n)
	}
	return n
}

func zone(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = name }
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "a"}}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: resources("cpu", "1")}}}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func in(namespace string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = namespace } }

func requests(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources(pairs...) }
}

func port(number int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: number, HostPort: number, Protocol: corev1.ProtocolTCP}}
	}
}

func selectsHost(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"host": name} }
}

// ownApp selects the pods that pod() makes.
func ownApp() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
}

func apart(p *corev1.Pod) { apartFrom(nil)(p) }

// apartFrom keeps a pod off the hosts of such pods in the namespaces that the selector takes; nil is its own namespace.
func apartFrom(namespaces *metav1.LabelSelector) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: ownApp(), NamespaceSelector: namespaces, TopologyKey: "host"},
			},
		}}
	}
}

func spread(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "host", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: ownApp(),
	}}
}

func matchFields(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
			}}},
		}}
	}
}

// usesClaims mounts claims.
func usesClaims(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, name := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}})
		}
	}
}

func mounts(source corev1.VolumeSource) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}} }
}

const csiDriver = "csi.example.com"

// claim asks for a volume of class "late" that is not there yet.
func claim(name string, edit ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = resources("storage", "10Gi")
	c.Spec.StorageClassName = new("late")
	for _, e := range edit {
		e(c)
	}
	return c
}

// boundTo makes a claim one that has its volume.
func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status.Phase = volume, corev1.ClaimBound
		c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	}
}

func ofClass(class string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &class }
}

func onePodOnly(c *corev1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
}

// volume is a volume of the CSI driver that a claim holds.
func volume(name, claim string, edit ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: named(name)}
	v.Spec.StorageClassName = "late"
	v.Spec.Capacity = resources("storage", "10Gi")
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: csiDriver, VolumeHandle: name}
	v.Status.Phase = corev1.VolumeAvailable
	if claim != "" {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: claim, UID: types.UID(claim)}
		v.Status.Phase = corev1.VolumeBound
	}
	for _, e := range edit {
		e(v)
	}
	return v
}

// hostIs is a node selector that takes one host.
func hostIs(name string) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "host", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
	}}}
}

func reachableFrom(host string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: hostIs(host)}
	}
}

// classes are "late", whose volumes are made when the pod has a node, and "early", whose are made at once.
func classes() []*storagev1.StorageClass {
	return []*storagev1.StorageClass{
		{ObjectMeta: named("late"), Provisioner: csiDriver, VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer)},
		{ObjectMeta: named("early"), Provisioner: csiDriver, VolumeBindingMode: new(storagev1.VolumeBindingImmediate)},
	}
}

// attachesAtMost is the CSI driver's limit on a node.
func attachesAtMost(count int32, host string) *storagev1.CSINode {
	return &storagev1.CSINode{ObjectMeta: named(host), Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{
		{Name: csiDriver, NodeID: host, Allocatable: &storagev1.VolumeNodeResources{Count: &count}},
	}}}
}

const deviceDriver = "devices.example.com"

// usesDevices makes a pod use resource claims.
func usesDevices(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, name := range claims {
			entry := fmt.Sprintf("devices-%d", i)
			p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: entry, ResourceClaimName: &name})
			p.Spec.Containers[0].Resources.Claims = append(p.Spec.Containers[0].Resources.Claims, corev1.ResourceClaim{Name: entry})
		}
	}
}

// deviceClass takes every device; a resource name makes it back that extended resource too.
func deviceClass(name, resourceName string) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: named(name)}
	if resourceName != "" {
		c.Spec.ExtendedResourceName = &resourceName
	}
	return c
}

// deviceClaim asks for one device of class "fast".
func deviceClaim(name string, edit ...func(*resourcev1.ResourceClaim)) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), ResourceVersion: "1"}}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "one", Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: "fast", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1,
	}}}
	for _, e := range edit {
		e(c)
	}
	return c
}

// allocated gives a claim the first device of a host.
func allocated(host string) func(*resourcev1.ResourceClaim) {
	return func(c *resourcev1.ResourceClaim) {
		c.Status.Allocation = &resourcev1.AllocationResult{
			NodeSelector: hostIs(host),
			Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
				{Request: "one", Driver: deviceDriver, Pool: host, Device: "device-0"},
			}},
		}
	}
}

// devicesOn is what the driver offers on a host.
func devicesOn(host string, count int) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: named("slice-" + host)}
	s.Spec = resourcev1.ResourceSliceSpec{
		Driver: deviceDriver, NodeName: &host, Pool: resourcev1.ResourcePool{Name: host, Generation: 1, ResourceSliceCount: 1},
	}
	for i := range count {
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: fmt.Sprintf("device-%d", i)})
	}
	return s
}
