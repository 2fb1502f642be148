package objects

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

const (
	nodePrefix = "node-"
	zones      = 3
	// KubeletVersion is what nodes say they run.
	KubeletVersion = "v1.37.2"
)

// Labels that no two nodes share, as TopoLVM and eksctl set them.
const (
	labelTopoLVM = "topology.topolvm.io/node"
	labelEKS     = "alpha.eksctl.io/instance-id"
)

// Nodes makes the nodes of a cluster.
type Nodes struct{ *Cluster }

var _ rows.Maker = Nodes{}

// NodeName is the name of the node of a number.
func NodeName(number uint32) string {
	return string(appendDigits([]byte(nodePrefix), uint64(number), 6))
}

// NodeNumber is the number of the node of a name; ok is false if no row has such a name.
func NodeNumber(name string) (number int, ok bool) {
	if len(name) != len(nodePrefix)+6 || name[:len(nodePrefix)] != nodePrefix {
		return 0, false
	}
	number, err := strconv.Atoi(name[len(nodePrefix):])
	return number, err == nil && number >= 0
}

// Namespace implements rows.Maker.
func (n Nodes) Namespace(rows.Row) string { return "" }

// AppendName implements rows.Maker.
func (n Nodes) AppendName(dst []byte, r rows.Row) []byte {
	return appendDigits(append(dst, nodePrefix...), uint64(r.Serial), 6)
}

// Labels are those of a node.
func (n Nodes) Labels(r rows.Row) labels.Set { return n.labels(r, n.valuesOf(uidNode, r)) }

// Field is what a field selector asks for.
func (n Nodes) Field(r rows.Row, name string) (value string, ok bool) {
	if name == "metadata.name" {
		return NodeName(r.Serial), true
	}
	return NodeField(n.Object(r).(*corev1.Node), name)
}

// NodeField is what a field selector asks for of a node.
func NodeField(node *corev1.Node, name string) (value string, ok bool) {
	if name == "spec.unschedulable" {
		return strconv.FormatBool(node.Spec.Unschedulable), true
	}
	return "", false
}

// Append appends the encoding of a node.
func (n Nodes) Append(dst []byte, r rows.Row, encoding Encoding) []byte {
	t := n.template(r, encoding)
	at := len(dst)
	dst = append(dst, t.text...)
	n.fill(dst[at:], t, uidNode, r, encoding)
	return dst
}

// Size is the length of that.
func (n Nodes) Size(r rows.Row, encoding Encoding) int { return len(n.template(r, encoding).text) }

func (n Nodes) template(r rows.Row, encoding Encoding) *template {
	look := uint64(r.Shape)<<16 | uint64(r.Serial%zones)<<8 | uidNode
	return n.looks.of(look, encoding, func() Object { return n.node(r, marks) })
}

// Object makes a node.
func (n Nodes) Object(r rows.Row) Object { return n.node(r, n.valuesOf(uidNode, r)) }

func (n Nodes) labels(r rows.Row, v values) map[string]string {
	all := map[string]string{
		corev1.LabelHostname: nodePrefix + v.node, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
		corev1.LabelInstanceTypeStable: n.sizes[r.Shape].instance, corev1.LabelTopologyRegion: "standin",
		corev1.LabelTopologyZone: fmt.Sprintf("standin-%c", 'a'+r.Serial%zones), "node.example.com/pool": "general",
	}
	if n.UniqueLabels {
		all[labelTopoLVM], all[labelEKS] = nodePrefix+v.node, "i-"+v.instance
	}
	return all
}

func (n Nodes) node(r rows.Row, v values) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: nodePrefix + v.node, UID: types.UID(v.uid), ResourceVersion: v.version, CreationTimestamp: at(v.born),
			Labels: n.labels(r, v), Annotations: map[string]string{"node.alpha.kubernetes.io/ttl": "0"},
		},
		Spec: corev1.NodeSpec{ProviderID: "standin:///" + nodePrefix + v.node},
	}
	has := n.sizes[r.Shape].has
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(int64(has.MilliCPU), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(has.MemoryMi)<<20, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(has.Pods), resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(500<<30, resource.BinarySI),
	}
	node.Status = corev1.NodeStatus{
		Capacity: list, Allocatable: list, Conditions: nodeConditions(v),
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: hostNetwork + v.hostIP}, {Type: corev1.NodeHostName, Address: nodePrefix + v.node},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: v.uid, SystemUUID: v.uid, BootID: v.uid, KernelVersion: "6.12.0", OSImage: "Stand-in",
			ContainerRuntimeVersion: "containerd://2.1.0", KubeletVersion: KubeletVersion, OperatingSystem: "linux", Architecture: "amd64",
		},
	}
	if !n.Lean {
		node.ManagedFields, node.Status.Images = nodeManagers(v), n.images()
	}
	return node
}

func nodeConditions(v values) []corev1.NodeCondition {
	var all []corev1.NodeCondition
	no, yes := corev1.ConditionFalse, corev1.ConditionTrue
	for _, c := range []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: no, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: corev1.NodeDiskPressure, Status: no, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: corev1.NodePIDPressure, Status: no, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: corev1.NodeReady, Status: yes, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	} {
		c.LastHeartbeatTime, c.LastTransitionTime = at(v.since), at(v.born)
		all = append(all, c)
	}
	return all
}

// images are those of a node that has run many applications: a kubelet reports up to 50.
func (n Nodes) images() []corev1.ContainerImage {
	var all []corev1.ContainerImage
	for i := range 30 {
		name := "registry.example.com/standin/" + n.apps[i].name
		digest := letters(mix(uint64(i)), 13)
		all = append(all, corev1.ContainerImage{
			Names: []string{name + "@sha256:" + digest + digest + digest, name + ":1.4.2"}, SizeBytes: int64(i+1) << 20,
		})
	}
	return all
}
