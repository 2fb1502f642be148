package kubelet

import (
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// Above are the upper pods bound to the virtual node, by namespace/name. What it returns is shared: nobody may change it.
type Above interface {
	GetByKey(key string) (pod any, exists bool, err error)
	List() []any
}

// pods finds the lower pod that a request is about.
type pods struct {
	node     string // the virtual node
	identity string
	above    Above
	below    pair.Indexed
}

// find returns the lower pod, or a refusal. It is that of the upper pod which the API server shows on this virtual node now, found by
// that one's UID: neither the name of a pod below nor what a pod there says of itself is enough.
func (p *pods) find(c *call) (*corev1.Pod, error) {
	object, exists, err := p.above.GetByKey(c.namespace + "/" + c.pod)
	if err != nil || !exists {
		return nil, noPod(c)
	}
	upper := object.(*corev1.Pod)
	if upper.Spec.NodeName != p.node || c.uid != "" && c.uid != upper.UID {
		return nil, noPod(c)
	}
	if c.container != "" && !hasContainer(upper, c.container) {
		return nil, noContainer(c)
	}
	if lower := pair.LowerOf(p.below, upper, p.identity, p.node); lower != nil {
		return lower, nil
	}
	return nil, p.missing(c, upper)
}

// missing says that an upper pod has none below: as a kubelet does of a container that has not started, or of a pod that has gone.
func (p *pods) missing(c *call, upper *corev1.Pod) error {
	if upper.Status.Phase == corev1.PodPending {
		return refuse(http.StatusBadRequest, "container %q in pod %q is waiting to start: the pod is not in lower cluster %q yet",
			c.container, c.pod, p.node)
	}
	return refuse(http.StatusNotFound, "%s: it has gone from lower cluster %q, and its logs with it", noPod(c), p.node)
}

func hasContainer(pod *corev1.Pod, name string) bool {
	named := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(pod.Spec.Containers, named) || slices.ContainsFunc(pod.Spec.InitContainers, named) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
}
