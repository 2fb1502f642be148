package oracle

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// port is a port of a node that a pod takes for itself.
type port struct {
	ip       string // "0.0.0.0" is every address
	protocol corev1.Protocol
	number   int32
}

const everyAddress = "0.0.0.0"

// hostPorts lists what kube-scheduler counts: the host ports of containers that live as long as the pod.
func hostPorts(spec *corev1.PodSpec) []port {
	var ports []port
	add := func(containers []corev1.Container, counts func(*corev1.Container) bool) {
		for i := range containers {
			if !counts(&containers[i]) {
				continue
			}
			for _, p := range containers[i].Ports {
				if p.HostPort > 0 {
					ports = append(ports, port{ip: cmp.Or(p.HostIP, everyAddress), protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP), number: p.HostPort})
				}
			}
		}
	}
	add(spec.InitContainers, isSidecar)
	add(spec.Containers, func(*corev1.Container) bool { return true })
	return ports
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// clash reports whether two pods with these ports cannot share a node.
func clash(a, b []port) bool {
	return slices.ContainsFunc(a, func(x port) bool {
		return slices.ContainsFunc(b, func(y port) bool {
			return x.number == y.number && x.protocol == y.protocol && (x.ip == y.ip || x.ip == everyAddress || y.ip == everyAddress)
		})
	})
}
