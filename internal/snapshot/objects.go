package snapshot

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Objects gives the snapshot back as API objects, for the exact path. What fit does not look at is made up: a pod comes
// back as one container that asks for what the whole pod does.
func (s *Snapshot) Objects() (nodes []*corev1.Node, pods []*corev1.Pod) {
	for _, node := range s.Nodes {
		object := *node.Object
		object.Status.Allocatable = node.Allocatable.List()
		nodes = append(nodes, &object)
		for _, pod := range node.Pods {
			pods = append(pods, pod.object())
		}
	}
	return nodes, pods
}

// Namespaces returns the labels of the cluster's namespaces.
func (s *Snapshot) Namespaces() Namespaces { return s.around.Namespaces }

// Version is that of the cluster's scheduler.
func (s *Snapshot) Version() Version { return s.around.Version }

func (l *LowerPod) object() *corev1.Pod {
	if l.Object != nil {
		return l.Object
	}
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace, pod.UID, pod.Labels = string(l.UID), l.namespace, l.UID, l.labels
	if l.terminating {
		pod.DeletionTimestamp = &metav1.Time{}
	}
	pod.Spec.NodeName = l.Node
	requests := l.Requests
	requests.Pods = 0
	container := corev1.Container{Name: "all", Resources: corev1.ResourceRequirements{Requests: requests.List()}}
	for _, p := range l.ports {
		taken := corev1.ContainerPort{HostIP: p.ip, Protocol: p.protocol, HostPort: p.number, ContainerPort: p.number}
		container.Ports = append(container.Ports, taken)
	}
	pod.Spec.Containers = []corev1.Container{container}
	if len(l.apartTerms) > 0 {
		apart := &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: l.apartTerms}
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: apart}
	}
	return pod
}

// Coming is a pod on its way to a node: by a hold, or because the lower scheduler is about to place it.
type Coming struct {
	UID  types.UID // of the hold; empty for others
	Pod  *corev1.Pod
	Node string
}

// Coming lists the pods on their way in a cluster but that of uid, the oldest holds first.
func (p *Pool) Coming(name string, uid types.UID) []Coming {
	c := p.cells[name]
	if c == nil {
		return nil
	}
	var coming []Coming
	for _, hold := range byAge(c.holds) {
		if _, there := c.rows[hold.Node]; there && hold.UID != uid && hold.pod.Object != nil {
			coming = append(coming, Coming{UID: hold.UID, Pod: hold.pod.Whole(), Node: hold.Node})
		}
	}
	for _, g := range c.guests {
		coming = append(coming, Coming{Pod: g.pod.Whole(), Node: c.nodes[g.row].Name()})
	}
	return coming
}

// Uncreated lists the pods of a namespace that have a hold in the cluster and do not exist there yet, but that of uid.
func (p *Pool) Uncreated(name, namespace string, uid types.UID) []*corev1.Pod {
	var pods []*corev1.Pod
	if c := p.cells[name]; c != nil {
		for _, hold := range c.holds {
			if hold.UID != uid && hold.State != Mirrored && hold.pod.Object != nil && hold.pod.namespace == namespace {
				pods = append(pods, hold.pod.Object)
			}
		}
	}
	return pods
}
