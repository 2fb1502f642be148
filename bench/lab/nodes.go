package lab

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelNode marks the nodes that the lab made.
const labelNode = "lab.tessera.sh/node"

// nodeName gives the name of node i, counted from 1.
func (c *cluster) nodeName(i int) string { return fmt.Sprintf("%s-node-%04d", c.name, i) }

// createNodes registers the nodes as kubelets would, with their status. KWOK keeps their leases from then on.
func (c *cluster) createNodes(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, resources := range c.nodes {
		group.Go(func() error {
			if _, err := c.client.CoreV1().Nodes().Create(ctx, c.node(i+1, resources), metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("creating node %s: %w", c.nodeName(i+1), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// node makes the object of node i. Zones go round three names in a cluster.
func (c *cluster) node(i int, resources corev1.ResourceList) *corev1.Node {
	name := c.nodeName(i)
	capacity := corev1.ResourceList{}
	for key, q := range resources {
		if !q.IsZero() {
			capacity[key] = q
		}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			labelNode: "true", corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
			corev1.LabelTopologyRegion: c.name, corev1.LabelTopologyZone: fmt.Sprintf("%s-%c", c.name, 'a'+rune((i-1)%3)),
		}},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity.DeepCopy(), Conditions: readyConditions(),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.%d.%d.%d", 16+c.index%16, (i>>8)&0xff, i&0xff)},
				{Type: corev1.NodeHostName, Address: name},
			},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: KubernetesVersion,
				ContainerRuntimeVersion: "kwok://0.8.0", OSImage: "lab", KernelVersion: "lab", MachineID: name, SystemUUID: name, BootID: name,
			},
		},
	}
}

func readyConditions() []corev1.NodeCondition {
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, Message: "set by the lab", LastHeartbeatTime: now, LastTransitionTime: now,
		}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
	}
}
