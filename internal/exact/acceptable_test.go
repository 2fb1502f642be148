package exact_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// acceptable asks the API server's own validation whether it would store such a pod: a disagreement about a pod that
// cannot exist is none.
func acceptable(candidate *corev1.Pod) error {
	defaulted := candidate.DeepCopy()
	conversion.SetObjectDefaults_Pod(defaulted)
	var internal core.Pod
	if err := conversion.Convert_v1_Pod_To_core_Pod(defaulted, &internal, nil); err != nil {
		return fmt.Errorf("converting pod %s: %w", candidate.Name, err)
	}
	options := podapi.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
	options.AllowUserNamespacesHostNetworkSupport = true // Alpha in 1.37, but a cluster may have it, and the filter is there.
	if errs := validation.ValidatePodCreate(&internal, options); len(errs) > 0 {
		return fmt.Errorf("validating pod %s: %w", candidate.Name, errs.ToAggregate())
	}
	return nil
}

func TestRandomObjectsAreAcceptable(t *testing.T) {
	t.Parallel()
	s := newSource(11)
	for i := range 2000 {
		pod := s.running(fmt.Sprintf("pod-%d", i), "node")
		if err := acceptable(pod); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		node := s.node(fmt.Sprintf("node-%d", i))
		var internal core.Node
		if err := conversion.Convert_v1_Node_To_core_Node(node, &internal, nil); err != nil {
			t.Fatal(err)
		}
		if errs := validation.ValidateNode(&internal); len(errs) > 0 {
			t.Fatalf("validating node %s: %v", node.Name, errs)
		}
	}
}
