package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// LargestBody bounds a body, in bytes. A pod is at most 1.5 MiB in etcd; a list of 10,000 names is about 1 MiB.
const LargestBody = 8 << 20

// ReadArgs reads what filter and prioritize are asked, in either form: NodeNames or Nodes, each name once. A nil body stands
// for one that could not be read to its end.
func ReadArgs(body []byte) (*extenderv1.ExtenderArgs, error) {
	if body == nil {
		return nil, fmt.Errorf("reading request: over %d bytes or cut off: set nodeCacheCapable: true in the extender entry", LargestBody)
	}
	args := &extenderv1.ExtenderArgs{}
	if err := json.Unmarshal(body, args); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	switch {
	case args.Pod == nil:
		return nil, errors.New("reading request: no Pod in it")
	case args.Pod.Name == "":
		return nil, errors.New("reading request: the Pod has no name")
	case args.NodeNames == nil && args.Nodes == nil:
		return nil, errors.New("reading request: neither NodeNames nor Nodes in it")
	}
	if err := checkAmounts(args.Pod); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	return args, onlyOnce(args)
}

// onlyOnce drops the names that come again, and refuses one that is empty.
func onlyOnce(args *extenderv1.ExtenderArgs) error {
	if args.NodeNames != nil {
		seen := names{}
		*args.NodeNames = slices.DeleteFunc(*args.NodeNames, seen.before)
		if seen[""] {
			return errors.New("reading request: NodeNames: one of them is empty")
		}
	}
	if args.Nodes != nil {
		seen := names{}
		args.Nodes.Items = slices.DeleteFunc(args.Nodes.Items, func(node corev1.Node) bool { return seen.before(node.Name) })
		if seen[""] {
			return errors.New("reading request: Nodes: one of them has no name")
		}
	}
	return nil
}

// names are those seen so far.
type names map[string]bool

func (n names) before(name string) bool {
	if n[name] {
		return true
	}
	n[name] = true
	return false
}

// ReadPreemption reads what preempt is asked. Nodes without victims and victims without a pod are left out.
func ReadPreemption(body []byte) (*extenderv1.ExtenderPreemptionArgs, error) {
	args := &extenderv1.ExtenderPreemptionArgs{}
	if err := json.Unmarshal(body, args); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	maps.DeleteFunc(args.NodeNameToVictims, func(_ string, v *extenderv1.Victims) bool { return v == nil })
	maps.DeleteFunc(args.NodeNameToMetaVictims, func(_ string, v *extenderv1.MetaVictims) bool { return v == nil })
	for _, victims := range args.NodeNameToVictims {
		victims.Pods = slices.DeleteFunc(victims.Pods, func(pod *corev1.Pod) bool { return pod == nil })
	}
	for _, victims := range args.NodeNameToMetaVictims {
		victims.Pods = slices.DeleteFunc(victims.Pods, func(pod *extenderv1.MetaPod) bool { return pod == nil })
	}
	return args, nil
}

// ReadBinding reads what bind is asked.
func ReadBinding(body []byte) (*extenderv1.ExtenderBindingArgs, error) {
	args := &extenderv1.ExtenderBindingArgs{}
	if err := json.Unmarshal(body, args); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	if args.PodNamespace == "" || args.PodName == "" || args.PodUID == "" || args.Node == "" {
		return nil, errors.New("reading request: PodNamespace, PodName, PodUID and Node are needed, and one of them is empty")
	}
	return args, nil
}

// ReadPod reads the pod of POST /debug/whatif, which may be without a name.
func ReadPod(body []byte) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := json.Unmarshal(body, pod); err != nil {
		return nil, fmt.Errorf("reading body: %w", err)
	}
	return pod, checkAmounts(pod)
}
