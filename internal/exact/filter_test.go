package exact_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/exact"
)

// bite is a case in which a plugin refuses node a, and no plugin refuses node b unless everywhere is set.
type bite struct {
	objects    exact.Objects // nodes a and b are added unless it has nodes
	pod        *corev1.Pod
	plugin     string // "" if a fits too
	text       string // part of what it says
	everywhere bool   // b is refused as a is
}

func (c bite) check(t *testing.T) {
	t.Helper()
	if c.objects.Nodes == nil {
		c.objects.Nodes = []*corev1.Node{node("a"), node("b")}
	}
	cluster, err := exact.NewCluster(c.objects)
	if err != nil {
		t.Fatal(err)
	}
	fits, refused, err := cluster.Filter(t.Context(), c.pod)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	switch {
	case c.plugin == "":
		want = []string{"a", "b"}
	case !c.everywhere:
		want = []string{"b"}
	}
	if diff := cmp.Diff(want, fits); diff != "" {
		t.Errorf("nodes that take the pod differ (-want +got):\n%srefused: %v", diff, refused)
	}
	for name, refusal := range refused {
		if refusal.Plugin != c.plugin || !strings.Contains(refusal.Text, c.text) {
			t.Errorf("node %s: refused by %q, want %s with %q", name, refusal, c.plugin, c.text)
		}
	}
}

func checkAll(t *testing.T, cases map[string]bite) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func nodes(list ...*corev1.Node) exact.Objects { return exact.Objects{Nodes: list} }

func pods(list ...*corev1.Pod) exact.Objects { return exact.Objects{Pods: list} }

func TestPluginsOfNodesAndPodsBite(t *testing.T) {
	t.Parallel()
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tainted := func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}} }
	ofOne := func(n *corev1.Node) { n.Status.Allocatable = resources("cpu", "4", "memory", "8Gi", "pods", "1") }
	declares := func(features ...string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Status.DeclaredFeatures = features }
	}
	mapsUsersOnHostNetwork := func(p *corev1.Pod) { p.Spec.HostNetwork, p.Spec.HostUsers = true, new(false) }
	restartsAll := func(p *corev1.Pod) {
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	}
	teams := []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "red", Labels: map[string]string{"team": "red"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "blue", Labels: map[string]string{"team": "blue"}}},
	}
	red := &metav1.LabelSelector{MatchLabels: map[string]string{"team": "red"}}
	checkAll(t, map[string]bite{
		"cordoned":         {objects: nodes(node("a", cordoned), node("b")), pod: pod("p"), plugin: "NodeUnschedulable"},
		"named node":       {pod: pod("p", on("b")), plugin: "NodeName"},
		"taint":            {objects: nodes(node("a", tainted), node("b")), pod: pod("p"), plugin: "TaintToleration"},
		"node selector":    {pod: pod("p", selectsHost("b")), plugin: "NodeAffinity"},
		"affinity by name": {pod: pod("p", matchFields("b")), plugin: "NodeAffinity", text: "the pod names other nodes"},
		"unknown name":     {pod: pod("p", matchFields("c")), plugin: "NodeAffinity", everywhere: true},
		"host port":        {objects: pods(pod("r", on("a"), port(80))), pod: pod("p", port(80)), plugin: "NodePorts"},
		"cpu": {
			objects: pods(pod("r", on("a"), requests("cpu", "3500m"))),
			pod:     pod("p"), plugin: "NodeResourcesFit", text: "Insufficient cpu",
		},
		"memory": {
			objects: pods(pod("r", on("a"), requests("memory", "8Gi"))),
			pod:     pod("p", requests("memory", "1")), plugin: "NodeResourcesFit", text: "Insufficient memory",
		},
		"pods": {
			objects: exact.Objects{Nodes: []*corev1.Node{node("a", ofOne), node("b")}, Pods: []*corev1.Pod{pod("r", on("a"))}},
			pod:     pod("p"), plugin: "NodeResourcesFit", text: "Too many pods",
		},
		"extended resource of nobody": {
			pod: pod("p", requests("example.com/gpu", "1")), plugin: "NodeResourcesFit", text: "Insufficient example.com/gpu", everywhere: true,
		},
		// The key that marks Tessera's pods has quantity zero, and zero of a resource that no node has fits every node.
		"zero of an extended resource of nobody": {pod: pod("p", requests("cpu", "1", "tessera.sh/pod", "0"))},
		"anti-affinity":                          {objects: pods(pod("r", on("a"))), pod: pod("p", apart), plugin: "InterPodAffinity"},
		"their antipathy":                        {objects: pods(pod("r", on("a"), apart)), pod: pod("p"), plugin: "InterPodAffinity"},
		"anti-affinity to a team": {
			objects: exact.Objects{Namespaces: teams, Pods: []*corev1.Pod{pod("r", in("red"), on("a")), pod("r2", in("blue"), on("b"))}},
			pod:     pod("p", apartFrom(red)), plugin: "InterPodAffinity",
		},
		"their antipathy to a team": {
			objects: exact.Objects{Namespaces: teams, Pods: []*corev1.Pod{pod("r", on("a"), apartFrom(red))}},
			pod:     pod("p", in("red")), plugin: "InterPodAffinity",
		},
		"their antipathy to another team": {
			objects: exact.Objects{Namespaces: teams, Pods: []*corev1.Pod{pod("r", on("a"), apartFrom(red))}},
			pod:     pod("p", in("blue")),
		},
		"spread": {objects: pods(pod("r", on("a"))), pod: pod("p", spread), plugin: "PodTopologySpread"},
		"declared feature of the network": {
			objects: nodes(node("a"), node("b", declares("UserNamespacesHostNetworkSupport"))),
			pod:     pod("p", mapsUsersOnHostNetwork), plugin: "NodeDeclaredFeatures",
		},
		"declared feature of restarts": {
			objects: nodes(node("a", declares("Other")), node("b", declares("Other", "RestartAllContainersOnContainerExits"))),
			pod:     pod("p", restartsAll), plugin: "NodeDeclaredFeatures",
		},
	})
}

func TestPluginsOfVolumesBite(t *testing.T) {
	t.Parallel()
	zones := []*corev1.Node{node("a", zone("x")), node("b", zone("y"))}
	inZoneY := func(v *corev1.PersistentVolume) { v.Labels = map[string]string{corev1.LabelTopologyZone: "y"} }
	tracksCapacity := []*storagev1.CSIDriver{{ObjectMeta: named(csiDriver), Spec: storagev1.CSIDriverSpec{StorageCapacity: new(true)}}}
	capacity := func(host, size string) *storagev1.CSIStorageCapacity {
		return &storagev1.CSIStorageCapacity{
			ObjectMeta: metav1.ObjectMeta{Name: host, Namespace: "default"}, StorageClassName: "late", Capacity: new(resource.MustParse(size)),
			NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{"host": host}},
		}
	}
	disk := corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{PDName: "disk"}}
	target := corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "192.0.2.1:3260", IQN: "iqn.2026-01.com.example:disk"}}
	asks := pod("p", usesClaims("data"))
	checkAll(t, map[string]bite{
		"volume of another node": {
			objects: exact.Objects{
				Claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}, Volumes: []*corev1.PersistentVolume{volume("v", "data", reachableFrom("b"))},
			},
			pod: asks, plugin: "VolumeBinding", text: "node affinity",
		},
		"volume of another zone": {
			objects: exact.Objects{
				Nodes: zones, Claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}, Volumes: []*corev1.PersistentVolume{volume("v", "data", inZoneY)},
			},
			pod: asks, plugin: "VolumeZone",
		},
		"volume to be made anywhere": {
			objects: exact.Objects{Claims: []*corev1.PersistentVolumeClaim{claim("data")}, StorageClasses: classes()},
			pod:     asks,
		},
		"volume to be made where there is room": {
			objects: exact.Objects{
				Claims: []*corev1.PersistentVolumeClaim{claim("data")}, StorageClasses: classes(), CSIDrivers: tracksCapacity,
				CSIStorageCapacities: []*storagev1.CSIStorageCapacity{capacity("a", "1Gi"), capacity("b", "20Gi")},
			},
			pod: asks, plugin: "VolumeBinding", text: "did not have enough free storage",
		},
		"volume to be made, room unknown": {
			objects: exact.Objects{Claims: []*corev1.PersistentVolumeClaim{claim("data")}, StorageClasses: classes(), CSIDrivers: tracksCapacity},
			pod:     asks, plugin: "VolumeBinding", text: "did not have enough free storage", everywhere: true,
		},
		"volume that waits for nobody": {
			objects: exact.Objects{Claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass("early"))}, StorageClasses: classes()},
			pod:     asks, plugin: "VolumeBinding", text: "unbound immediate PersistentVolumeClaims", everywhere: true,
		},
		"free volume on the other node": {
			objects: exact.Objects{
				Claims:         []*corev1.PersistentVolumeClaim{claim("data", ofClass("local"))},
				StorageClasses: []*storagev1.StorageClass{{ObjectMeta: named("local"), Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer)}},
				Volumes:        []*corev1.PersistentVolume{volume("v", "", reachableFrom("b"), func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "local" })},
			},
			pod: asks, plugin: "VolumeBinding", text: "didn't find available persistent volumes",
		},
		"no such claim": {pod: asks, plugin: "VolumeRestrictions", text: `persistentvolumeclaim "data" not found`, everywhere: true},
		"no such class": {
			objects: exact.Objects{Claims: []*corev1.PersistentVolumeClaim{claim("data")}},
			pod:     asks, plugin: "VolumeBinding", text: "unbound immediate PersistentVolumeClaims", everywhere: true,
		},
		"no such volume": {
			objects: exact.Objects{Claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}},
			pod:     asks, plugin: "VolumeZone", text: `persistentvolume "v" not found`, everywhere: true,
		},
		"claim of one pod only": {
			objects: exact.Objects{
				Claims: []*corev1.PersistentVolumeClaim{claim("data", onePodOnly)}, StorageClasses: classes(), Pods: []*corev1.Pod{pod("r", on("a"), usesClaims("data"))},
			},
			pod: asks, plugin: "VolumeRestrictions", text: "ReadWriteOncePod", everywhere: true,
		},
		"as many volumes as a node attaches": {
			objects: exact.Objects{
				Pods:     []*corev1.Pod{pod("r", on("a"), usesClaims("other")), pod("r2", on("b"), usesClaims("third"))},
				Claims:   []*corev1.PersistentVolumeClaim{claim("data", boundTo("v")), claim("other", boundTo("w")), claim("third", boundTo("x"))},
				Volumes:  []*corev1.PersistentVolume{volume("v", "data"), volume("w", "other"), volume("x", "third")},
				CSINodes: []*storagev1.CSINode{attachesAtMost(1, "a"), attachesAtMost(2, "b")},
			},
			pod: asks, plugin: "NodeVolumeLimits", text: "exceed max volume count",
		},
		"volumes still attached count too": {
			objects: exact.Objects{
				Claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}, Volumes: []*corev1.PersistentVolume{volume("v", "data"), volume("w", "")},
				CSINodes: []*storagev1.CSINode{attachesAtMost(1, "a"), attachesAtMost(1, "b")},
				VolumeAttachments: []*storagev1.VolumeAttachment{{ObjectMeta: named("w-a"), Spec: storagev1.VolumeAttachmentSpec{
					Attacher: csiDriver, NodeName: "a", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("w")},
				}}},
			},
			pod: asks, plugin: "NodeVolumeLimits", text: "exceed max volume count",
		},
		"disk that another pod writes": {
			objects: pods(pod("r", on("a"), mounts(disk))), pod: pod("p", mounts(disk)), plugin: "VolumeRestrictions", text: "no available disk",
		},
		"target that another pod writes": {
			objects: pods(pod("r", on("a"), mounts(target))), pod: pod("p", mounts(target)), plugin: "VolumeRestrictions", text: "no available disk",
		},
	})
}

func TestPluginsOfDevicesBite(t *testing.T) {
	t.Parallel()
	const cards = "example.com/cards"
	fast := []*resourcev1.DeviceClass{deviceClass("fast", "")}
	asks := pod("p", usesDevices("mine"))
	red := devicesOn("a", 1)
	red.Spec.Devices[0].Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"color": {StringValue: new("red")}}
	withCards := func(n *corev1.Node) { n.Status.Allocatable[cards] = resource.MustParse("2") }
	checkAll(t, map[string]bite{
		"claim that has a device elsewhere": {
			objects: exact.Objects{ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine", allocated("b"))}},
			pod:     asks, plugin: "DynamicResources", text: "not available on the node",
		},
		"device on one node": {
			objects: exact.Objects{
				ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine")}, DeviceClasses: fast, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)},
			},
			pod: asks, plugin: "DynamicResources",
		},
		"device that another claim has": {
			objects: exact.Objects{
				ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine"), deviceClaim("theirs", allocated("a"))}, DeviceClasses: fast,
				ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("a", 1), devicesOn("b", 1)},
			},
			pod: asks, plugin: "DynamicResources",
		},
		"second device beside another claim's": {
			objects: exact.Objects{
				ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine"), deviceClaim("theirs", allocated("a"))}, DeviceClasses: fast,
				ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("a", 2), devicesOn("b", 1)},
			},
			pod: asks,
		},
		"no device anywhere": {
			objects: exact.Objects{ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine")}, DeviceClasses: fast},
			pod:     asks, plugin: "DynamicResources", everywhere: true,
		},
		"no such class": {
			objects: exact.Objects{ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine")}, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)}},
			pod:     asks, plugin: "DynamicResources", text: "device class fast does not exist", everywhere: true,
		},
		"no such claim": {
			objects: exact.Objects{DeviceClasses: fast, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)}},
			pod:     asks, plugin: "DynamicResources", text: `"default/mine"`, everywhere: true,
		},
		"error on one node": { // kube-scheduler gives the whole attempt up, although node a would do.
			objects: exact.Objects{
				ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("mine")},
				ResourceSlices: []*resourcev1.ResourceSlice{red, devicesOn("b", 1)},
				DeviceClasses: []*resourcev1.DeviceClass{{ObjectMeta: named("fast"), Spec: resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{
					{CEL: &resourcev1.CELDeviceSelector{Expression: `device.attributes["` + deviceDriver + `"].color == "red"`}},
				}}}},
			},
			pod: asks, plugin: "DynamicResources", text: "no such key: color", everywhere: true,
		},
		"extended resource that devices back": {
			objects: exact.Objects{DeviceClasses: []*resourcev1.DeviceClass{deviceClass("fast", cards)}, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)}},
			pod:     pod("p", requests(cards, "1")), plugin: "DynamicResources",
		},
		"more of it than there are devices": {
			objects: exact.Objects{DeviceClasses: []*resourcev1.DeviceClass{deviceClass("fast", cards)}, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)}},
			pod:     pod("p", requests(cards, "2")), plugin: "DynamicResources", everywhere: true,
		},
		"extended resource of a device plugin where the class exists too": {
			objects: exact.Objects{
				Nodes: []*corev1.Node{node("a", withCards), node("b", withCards)}, DeviceClasses: []*resourcev1.DeviceClass{deviceClass("fast", cards)},
				Pods: []*corev1.Pod{pod("r", on("a"), requests(cards, "1"))},
			},
			pod: pod("p", requests(cards, "2")), plugin: "NodeResourcesFit", text: "Insufficient " + cards,
		},
		"extended resource by the name of the class": {
			objects: exact.Objects{DeviceClasses: fast, ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)}},
			pod:     pod("p", requests(resourcev1.ResourceDeviceClassPrefix+"fast", "1")), plugin: "DynamicResources",
		},
	})
}

func TestOnlyCandidatesAreAsked(t *testing.T) {
	t.Parallel()
	cluster, err := exact.NewCluster(nodes(node("a"), node("b"), node("c"), node("d")))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		candidates []string
		fits       []string
		refused    []string
	}{
		"none named is all":        {nil, []string{"c"}, []string{"a", "b", "d"}},
		"in the order asked":       {[]string{"d", "c"}, []string{"c"}, []string{"d"}},
		"a node that is not there": {[]string{"c", "gone"}, []string{"c"}, []string{"gone"}},
	} {
		fits, refused, err := cluster.Filter(t.Context(), pod("p", selectsHost("c")), c.candidates...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.fits, fits); diff != "" {
			t.Errorf("%s: fits differ (-want +got):\n%s", name, diff)
		}
		var names []string
		for node := range refused {
			names = append(names, node)
		}
		slices.Sort(names)
		if diff := cmp.Diff(c.refused, names); diff != "" {
			t.Errorf("%s: refused differ (-want +got):\n%s", name, diff)
		}
	}
	fits, _, err := cluster.Filter(t.Context(), pod("p"), "d", "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d", "a"}, fits); diff != "" {
		t.Errorf("fits are not in the order of the candidates (-want +got):\n%s", diff)
	}
}

func TestAnEndedContextIsAnError(t *testing.T) {
	t.Parallel()
	cluster, err := exact.NewCluster(nodes(node("a")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if fits, _, err := cluster.Filter(ctx, pod("p", spread)); !errors.Is(err, context.Canceled) {
		t.Errorf("asking: got fits %v, error %v, want that the context was canceled", fits, err)
	}
	if err := cluster.Hold(ctx, pod("p", spread), "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("holding: got error %v, want that the context was canceled", err)
	}
}

// What a pod on its way will get is not promised to the next: there are two CPUs, one device and one volume on b.
func TestHoldKeepsRoomDevicesAndVolumes(t *testing.T) {
	t.Parallel()
	const cards = "example.com/cards"
	noProvisioner := &storagev1.StorageClass{
		ObjectMeta: named("local"), Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
	}
	local := func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "local" }
	objects := exact.Objects{
		Nodes:          []*corev1.Node{node("a"), node("b")},
		Claims:         []*corev1.PersistentVolumeClaim{claim("data-1", ofClass("local")), claim("data-2", ofClass("local"))},
		StorageClasses: []*storagev1.StorageClass{noProvisioner},
		Volumes:        []*corev1.PersistentVolume{volume("v", "", reachableFrom("b"), local)},
		ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("device-1"), deviceClaim("device-2")},
		DeviceClasses:  []*resourcev1.DeviceClass{deviceClass("fast", cards)},
		ResourceSlices: []*resourcev1.ResourceSlice{devicesOn("b", 1)},
	}
	cases := map[string]struct {
		held, asks *corev1.Pod
		plugin     string // that refuses the second pod on b
	}{
		"room":              {pod("1", requests("cpu", "3")), pod("2", requests("cpu", "2")), "NodeResourcesFit"},
		"volume":            {pod("1", usesClaims("data-1")), pod("2", usesClaims("data-2")), "VolumeBinding"},
		"device":            {pod("1", usesDevices("device-1")), pod("2", usesDevices("device-2")), "DynamicResources"},
		"extended resource": {pod("1", requests(cards, "1")), pod("2", requests(cards, "1")), "DynamicResources"},
		"refused by now":    {pod("1", usesClaims("gone"), requests("cpu", "3")), pod("2", requests("cpu", "2")), "NodeResourcesFit"},
		"nothing in common": {pod("1", usesClaims("data-1")), pod("2", usesDevices("device-2")), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := exact.NewCluster(objects)
			if err != nil {
				t.Fatal(err)
			}
			if fits, refused, err := cluster.Filter(t.Context(), c.asks, "b"); err != nil || len(fits) != 1 {
				t.Fatalf("before the hold: refused %v, error %v; want that b takes the pod", refused, err)
			}
			if err := cluster.Hold(t.Context(), c.held, "b"); err != nil {
				t.Fatal(err)
			}
			_, refused, err := cluster.Filter(t.Context(), c.asks, "b")
			if err != nil {
				t.Fatal(err)
			}
			if got := refused["b"].Plugin; got != c.plugin {
				t.Errorf("got a refusal by %q, want %q", refused["b"], c.plugin)
			}
		})
	}
}

// A rule taints devices from 1.37 on; a cluster that has no rules, because it is older or nobody made one, is as before.
func TestDeviceTaintRules(t *testing.T) {
	t.Parallel()
	rule := func(selector *resourcev1.DeviceTaintSelector) *resourcev1.DeviceTaintRule {
		return &resourcev1.DeviceTaintRule{ObjectMeta: named("broken"), Spec: resourcev1.DeviceTaintRuleSpec{
			DeviceSelector: selector, Taint: resourcev1.DeviceTaint{Key: "broken", Effect: resourcev1.DeviceTaintEffectNoSchedule},
		}}
	}
	cases := map[string]struct {
		rules []*resourcev1.DeviceTaintRule
		fits  []string
	}{
		"no rule":               {nil, []string{"a", "b"}},
		"no selector":           {[]*resourcev1.DeviceTaintRule{rule(nil)}, []string{"a", "b"}},
		"every device":          {[]*resourcev1.DeviceTaintRule{rule(&resourcev1.DeviceTaintSelector{})}, nil},
		"of another driver":     {[]*resourcev1.DeviceTaintRule{rule(&resourcev1.DeviceTaintSelector{Driver: new("other.example.com")})}, []string{"a", "b"}},
		"of the pool of a node": {[]*resourcev1.DeviceTaintRule{rule(&resourcev1.DeviceTaintSelector{Pool: new("a")})}, []string{"b"}},
		"one device of two":     {[]*resourcev1.DeviceTaintRule{rule(&resourcev1.DeviceTaintSelector{Pool: new("a"), Device: new("device-0")})}, []string{"a", "b"}},
		"each device of two": {[]*resourcev1.DeviceTaintRule{
			rule(&resourcev1.DeviceTaintSelector{Pool: new("a"), Device: new("device-0")}),
			rule(&resourcev1.DeviceTaintSelector{Driver: new(deviceDriver), Device: new("device-1")}),
		}, []string{"b"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given := []*resourcev1.ResourceSlice{devicesOn("a", 2), devicesOn("b", 3)}
			cluster, err := exact.NewCluster(exact.Objects{
				Nodes: []*corev1.Node{node("a"), node("b")}, ResourceClaims: []*resourcev1.ResourceClaim{deviceClaim("device-1")},
				DeviceClasses: []*resourcev1.DeviceClass{deviceClass("fast", "")}, ResourceSlices: given, DeviceTaintRules: c.rules,
			})
			if err != nil {
				t.Fatal(err)
			}
			fits, refused, err := cluster.Filter(t.Context(), pod("p", usesDevices("device-1")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.fits, fits); diff != "" {
				t.Errorf("nodes that take the pod differ (-want +got):\n%s%v", diff, refused)
			}
			if len(given[0].Spec.Devices[0].Taints) > 0 {
				t.Error("the slices that were given have been changed")
			}
		})
	}
}
