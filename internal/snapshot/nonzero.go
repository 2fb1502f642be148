package snapshot

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresources "k8s.io/component-helpers/resource"
)

// unsaid is what the score counts of a pod beside its requests: 100m of CPU and 200Mi of memory for each container that does not say
// what it asks for (NodeResourcesFit counts so in its score, never in its filter). A request of zero is said.
type unsaid struct{ cpu, memory int64 }

var nonZero = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(200<<20, resource.BinarySI),
}

// unsaidOf returns it of a pod with such requests.
func unsaidOf(pod *corev1.Pod, requests Resources) unsaid {
	if !slices.ContainsFunc(pod.Spec.Containers, saysLittle) && !slices.ContainsFunc(pod.Spec.InitContainers, saysLittle) {
		return unsaid{}
	}
	counted := FromList(podresources.PodRequests(pod, podresources.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true, NonMissingContainerRequests: nonZero,
	}))
	return unsaid{max(0, counted.MilliCPU-requests.MilliCPU), max(0, counted.Memory-requests.Memory)}
}

func saysLittle(c corev1.Container) bool {
	_, cpu := c.Resources.Requests[corev1.ResourceCPU]
	_, memory := c.Resources.Requests[corev1.ResourceMemory]
	return !cpu || !memory
}

func (u unsaid) plus(other unsaid) unsaid {
	return unsaid{add(u.cpu, other.cpu), add(u.memory, other.memory)}
}

// less is what is left unsaid when so much is asked for after all.
func (u unsaid) less(asked Resources) unsaid {
	return unsaid{max(0, u.cpu-max(0, asked.MilliCPU)), max(0, u.memory-max(0, asked.Memory))}
}

func (u unsaid) times(sign int64) unsaid { return unsaid{sign * u.cpu, sign * u.memory} }

// asksNothing reports whether the pod takes nothing from any hole: it asks for nothing at all, and does not say that it needs nothing.
// So it goes where most is unused, as kube-scheduler puts it (LeastAllocated), and not where it is tightest.
func (p *Pod) asksNothing() bool {
	asks := func(n amount) bool { return n.name != corev1.ResourcePods }
	return p.unsaid != unsaid{} && !slices.ContainsFunc(p.needs, asks)
}

// measure finds how much is left on a row, see tight, and whether that is less than nothing; and what part of CPU and memory is unused:
// by the mean of the two, as LeastAllocated counts.
func (c *cell) measure(row int) {
	c.tight[row] = c.room.shares(row, c.within) - c.shares(c.unsaid[row])
	cpu, memory := add(c.room.amount[cpuColumn][row], -c.unsaid[row].cpu), add(c.room.amount[memoryColumn][row], -c.unsaid[row].memory)
	c.full[row] = cpu < 0 || memory < 0
	of := c.nodes[row].Allocatable
	c.unused[row] = share(max(0, cpu), of.MilliCPU) + share(max(0, memory), of.Memory)
}

// Columns of CPU and memory, see always.
const cpuColumn, memoryColumn = 0, 1

// shares is the unsaid as columns.shares counts.
func (c *cell) shares(u unsaid) float64 {
	sum := 0.0
	if within := c.within[cpuColumn]; within > 0 {
		sum += float64(u.cpu) / within
	}
	if within := c.within[memoryColumn]; within > 0 {
		sum += float64(u.memory) / within
	}
	return sum
}
