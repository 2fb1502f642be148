package api

import (
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tessera-k8s/tessera/bench/standin/admit"
	"github.com/tessera-k8s/tessera/bench/standin/objects"
)

// bind gives a pod its node.

func (c *call) bind() error {
	binding := &corev1.Binding{}
	if err := decodeInto(c.r, binding); err != nil {
		return err
	}
	_, err := c.change("binding", func(object objects.Object) error {
		pod := object.(*corev1.Pod)
		switch {
		case binding.UID != "" && binding.UID != pod.UID:
			return c.precondition(c.name, "UID", string(binding.UID), string(pod.UID))
		case pod.Spec.NodeName != "":
			return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, c.name,
				fmt.Errorf("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName))
		case len(pod.Spec.SchedulingGates) > 0:
			return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, c.name,
				fmt.Errorf("pod %s has non-empty .spec.schedulingGates", pod.Name))
		}
		admit.Bind(pod, binding.Target.Name, time.Now())
		return nil
	})
	if err != nil {
		return err
	}
	c.Counts.Writes.Add(1)
	answer(c.w, http.StatusCreated, statusKind, done(), c.encoding)
	return nil
}
