package down

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// sizesOf lists the sizes of a pod, for a checksum.
func sizesOf(spec *corev1.PodSpec) [][]string {
	var sizes [][]string
	add := func(name string, resources corev1.ResourceRequirements) {
		line := []string{name}
		for _, list := range []corev1.ResourceList{resources.Requests, resources.Limits} {
			for _, kind := range translate.Resizable {
				text := ""
				if amount, ok := list[kind]; ok {
					text = amount.String()
				}
				line = append(line, text)
			}
		}
		sizes = append(sizes, line)
	}
	if spec.Resources != nil {
		add("", *spec.Resources)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			add(containers[i].Name, containers[i].Resources)
		}
	}
	return sizes
}

// resize gives the lower pod the sizes that the upper one got since, by the subresource for that. It reports whether the
// lower pod has them; a refusal shows above as PodResizePending. Sizes that the lower cluster's admission changed or added
// at the creation stay until then.
func (c Changes) resize(ctx context.Context, upper, lower, wanted *corev1.Pod, memory *Memory) (done bool, err error) {
	noted, of := noteOf(lower).sizes, noteOf(wanted).sizes
	if noted == "" || noted == of {
		delete(memory.refused, changeSize) // It may have been taken back above.
		return true, nil
	}
	after := resized(lower, wanted)
	if equality.Semantic.DeepEqual(lower.Spec, after.Spec) {
		delete(memory.refused, changeSize)
		return true, nil
	}
	if memory.waits(changeSize, of) {
		return false, nil
	}
	before := &corev1.Pod{Spec: lower.Spec}
	patch, err := pair.TwoWay(before, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: lower.UID}, Spec: after.Spec})
	if err != nil {
		return false, fmt.Errorf("resizing: %w", err)
	}
	_, err = c.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "resize")
	return err == nil, c.answered(changeSize, of, upper, memory, err)
}

// resized is the lower pod with the sizes of wanted.
func resized(lower, wanted *corev1.Pod) *corev1.Pod {
	after := lower.DeepCopy()
	if wanted.Spec.Resources != nil {
		if after.Spec.Resources == nil {
			after.Spec.Resources = &corev1.ResourceRequirements{}
		}
		setSize(after.Spec.Resources, *wanted.Spec.Resources)
	}
	for _, both := range [][2][]corev1.Container{
		{after.Spec.InitContainers, wanted.Spec.InitContainers}, {after.Spec.Containers, wanted.Spec.Containers},
	} {
		for i := range both[0] {
			name := both[0][i].Name
			if at := slices.IndexFunc(both[1], func(c corev1.Container) bool { return c.Name == name }); at >= 0 {
				setSize(&both[0][i].Resources, both[1][at].Resources)
			}
		}
	}
	return after
}

func setSize(to *corev1.ResourceRequirements, from corev1.ResourceRequirements) {
	set := func(to *corev1.ResourceList, name corev1.ResourceName, amount resource.Quantity) {
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[name] = amount
	}
	for _, name := range translate.Resizable {
		if amount, ok := from.Requests[name]; ok {
			set(&to.Requests, name, amount)
		}
		if amount, ok := from.Limits[name]; ok {
			set(&to.Limits, name, amount)
		}
	}
}
